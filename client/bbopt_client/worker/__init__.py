"""What a script needs when ``bbopt run`` executes it: parameters in, metrics out.

Importing this package needs the standard library only, so that it costs a training script
nothing. The worker itself, which starts such scripts, lives in the modules beside it.

::

    from bbopt_client import worker

    parameters = worker.parameters()
    for epoch in range(10):
        loss = train_epoch(parameters["lr"])
        if worker.report(epoch, loss=loss):
            break
"""

from bbopt_client.worker.script import (
    budget,
    checkpoint_dir,
    infeasible,
    parameters,
    report,
    should_stop,
)

__all__ = ["budget", "checkpoint_dir", "infeasible", "parameters", "report", "should_stop"]

"""The table of bad inputs: what is sent, which status and fields it must be refused with.

Numbers are those of a catalogue of attacks and mistakes; a number without a case has a comment
where it would stand. Fields are the full list, so that a case also fails when a fault is blamed
on more than its own field or hides another one.
"""

# ruff: noqa: E501, S106 - a table; a page token is no password

import itertools
import math
from collections.abc import Iterator

from google.protobuf.duration_pb2 import Duration

from bbopt.rpc.v1 import insight_service_pb2 as insight_pb2
from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt.rpc.v1 import study_pb2, trial_pb2
from tests.e2e.bad_requests import (
    ABORTED,
    EXISTS,
    INF,
    NAN,
    NOT_FOUND,
    PRECONDITION,
    Case,
    asking,
    both,
    categories,
    circle,
    creating,
    deep,
    domain,
    enqueue,
    linear,
    listing,
    nested_conditions,
    of,
    outcome,
    renamed,
    reporting,
    sending,
    spliced,
    spread,
    step,
    telling,
    trial_called,
    value,
)
from tests.e2e.served import PARENT, new_id
from tests.unit.server.service import double

# The table ---------------------------------------------------------------------------------

LOSS = "outcome.completed.metrics[loss]"
X = "study.spec.parameters[0].double_domain"


# fmt: off
def values() -> Iterator[Case]:
    """1 to 30: what trials measured, and the points that they are made of."""
    for name, number in (("01-nan", NAN), ("02-plus-inf", INF), ("03-minus-inf", -INF)):
        yield Case(f"{name}-objective", "TellTrials", telling(outcome(loss=number)), (f"{LOSS}.value",), "finite")
        yield Case(f"{name}-in-a-report", "ReportMeasurements", reporting(step(1, loss=number)), ("measurements[0].metrics[loss].value",), "finite")
        yield Case(f"{name}-parameter", "CreateTrial", enqueue(x=number), ("parameters[x]",), "finite")
    yield Case("04-nan-constraint", "TellTrials", telling(outcome(mass=NAN)), ("outcome.completed.metrics[mass].value",), "finite")
    yield Case("04-nan-sd", "TellTrials", telling(spread(1.0, sd=NAN)), (f"{LOSS}.sd",), "finite and not negative")
    yield Case("05-negative-sd", "TellTrials", telling(spread(1.0, sd=-0.5)), (f"{LOSS}.sd",), "not negative")
    yield Case("05-negative-replicates", "TellTrials", telling(spread(1.0, replicates=-1)), (f"{LOSS}.replicates",), "not be negative")
    # 6: 1e308 and denormals are accepted, see test_bad_input.
    yield Case("07-int64-overflow-as-a-value", "CreateTrial", enqueue(n=2**63 - 1), ("parameters[n]",), r"in \[1, 9\]")
    yield Case("07-int64-overflow-as-a-bound", "CreateStudy", creating(lambda s: s.parameters.add(id="n", integer_domain=study_pb2.IntegerDomain(min=0, max=2**63 - 1))), ("study.spec.parameters[1].integer_domain.max",), r"2\*\*53")
    yield Case("08-int-as-3.0000001", "CreateTrial", enqueue(n=3.0000001), ("parameters[n]",), "an integer")
    yield Case("08-int-as-3.0", "CreateTrial", enqueue(n=3.0), ("parameters[n]",), "an integer")
    yield Case("09-bool-for-a-float", "CreateTrial", enqueue(x=True), ("parameters[x]",), "a number")
    yield Case("09-bool-for-an-int", "CreateTrial", enqueue(n=True), ("parameters[n]",), "an integer")
    yield Case("10-string-for-a-float", "CreateTrial", enqueue(x="0.5"), ("parameters[x]",), "a number")
    yield Case("10-int-for-a-bool", "CreateTrial", enqueue(flag=1), ("parameters[flag]",), "a bool")
    yield Case("11-a-value-of-no-type", "CreateTrial", enqueue(x=None), ("parameters[x]",), "must have a value")
    yield Case("11-an-outcome-of-no-kind", "TellTrials", telling(trial_pb2.Outcome()), ("outcome",), "one of completed")
    yield Case("12-a-parameter-missing", "CreateTrial", enqueue(x=...), ("parameters[x]",), "missing")
    yield Case("13-an-unknown-parameter", "CreateTrial", enqueue(z=1.0), ("parameters[z]",), "no such parameter")
    # 14: in a point the entries of a map cannot be there twice; in a definition they can.
    yield Case("14-a-duplicate-parameter", "CreateStudy", creating(lambda s: s.parameters.add().CopyFrom(double("x"))), ("study.spec.parameters[1].id",), "two parameters")
    for name, bound in (("low", math.nextafter(0.0, -1)), ("high", math.nextafter(1.0, 2))):
        yield Case(f"15-one-ulp-beyond-{name}", "CreateTrial", enqueue(x=bound), ("parameters[x]",), r"in \[0.0, 1.0\]")
    yield Case("16-log-scale-at-zero", "CreateTrial", enqueue(rate=0.0), ("parameters[rate]",), r"in \[1e-05, 0.1\]")
    yield Case("16-log-scale-negative", "CreateTrial", enqueue(rate=-1.0), ("parameters[rate]",), r"in \[1e-05, 0.1\]")
    yield Case("17-not-a-category", "CreateTrial", enqueue(kind="rmsprop"), ("parameters[kind]",), "one of 'adam', 'sgd'")
    yield Case("18-an-inactive-parameter", "CreateTrial", enqueue(momentum=0.5), ("parameters[momentum]",), "leave it out")
    yield Case("18-an-active-parameter-missing", "CreateTrial", enqueue(kind="sgd"), ("parameters[momentum]",), "missing")
    # 19 and 20: how far a trial goes is the server's to say; no request carries a fidelity but
    # the definition.
    yield Case("19-a-fidelity-without-rungs", "CreateStudy", creating(of("fidelity", id="epochs", low=9, high=2)), ("study.spec.fidelity.high",), "at least low")
    yield Case("20-a-fidelity-without-numbers", "CreateStudy", creating(of("fidelity", eta=1)), tuple(f"study.spec.fidelity.{each}" for each in ("id", "low", "high", "eta")), "at least 1")
    yield Case("21-no-objective-told", "TellTrials", telling(outcome(without="loss")), (LOSS,), "objective is missing")
    yield Case("21-two-objectives", "CreateStudy", creating(lambda s: s.metrics.add(id="b", kind=1, goal=1)), ("study.spec.metrics",), "exactly one objective")
    yield Case("22-an-unknown-metric", "TellTrials", telling(outcome(zzz=1.0)), ("outcome.completed.metrics[zzz]",), "no such metric")
    yield Case("22-an-unknown-metric-reported", "ReportMeasurements", reporting(step(1), step(2, zzz=1.0)), ("measurements[1].metrics[zzz]",), "no such metric")
    yield Case("23-a-duplicate-metric", "CreateStudy", creating(lambda s: s.metrics.add(id="loss", kind=4)), ("study.spec.metrics[1].id",), "two metrics")
    yield Case("24-a-negative-cost", "TellTrials", telling(outcome(cost=-1.0)), ("outcome.completed.metrics[cost].value",), "not be negative")
    late = outcome()
    late.completed.elapsed.seconds = -5
    yield Case("24-a-negative-duration", "TellTrials", telling(late), ("outcome.completed.elapsed",), "not negative")
    yield Case("25-a-negative-step", "ReportMeasurements", reporting(step(-1)), ("measurements[0].step",), "not be negative")
    yield Case("25-no-step", "ReportMeasurements", reporting(step(1), step(None)), ("measurements[1].step",), "must be set")
    # 25: step 2**63 - 1 and steps out of order are accepted: reports are keyed by step.
    # 26: no request carries a timestamp; durations are as odd.
    yield Case("26-negative-nanos", "AskTrials", asking(lease_duration=Duration(nanos=-1)), ("lease_duration",), "valid duration")
    yield Case("26-beyond-ten-thousand-years", "AskTrials", asking(max_wait=Duration(seconds=2**62)), ("max_wait",), "valid duration")
    yield Case("26-a-lease-of-an-age", "AskTrials", asking(lease_duration=Duration(seconds=10**11)), ("lease_duration",), "at most 30 days")
    yield Case("26-a-study-with-a-lease-of-an-age", "CreateStudy", creating(of("lease", duration=Duration(seconds=10**11), max_attempts=-1)), ("study.spec.lease.duration", "study.spec.lease.max_attempts"), "at most 30 days")
    # 27 to 29 are accepted, see test_bad_input.
    # 30: every door checks a point against the constraints between parameters, so no trial
    # violates them; measured constraints are violated and flagged, see test_bad_input.
    yield Case("30-a-point-that-violates-a-constraint", "CreateTrial", enqueue(x=1.0, y=1.0), ("parameters",), r"parameter_constraints\[0\]")


def definitions() -> Iterator[Case]:
    """31 to 45: definitions of studies."""
    yield Case("31-low-above-high", "CreateStudy", creating(domain(min=2.0)), (f"{X}.min",), "above high")
    yield Case("32-low-is-high", "CreateStudy", creating(domain(min=1.0)), (f"{X}.min",), "use Fixed")
    yield Case("33-nan-bounds", "CreateStudy", creating(domain(min=NAN, max=NAN)), (f"{X}.min", f"{X}.max"), "must be finite")
    yield Case("33-an-infinite-bound", "CreateStudy", creating(domain(max=INF)), (f"{X}.max",), "must be finite")
    yield Case("33-a-nan-step", "CreateStudy", creating(domain(step=NAN)), (f"{X}.step",), "finite")
    yield Case("33-a-nan-bound-of-a-metric", "CreateStudy", creating(lambda s: s.metrics.add(id="m", kind=2, upper=NAN)), ("study.spec.metrics[1].upper",), "finite")
    yield Case("34-log-from-zero", "CreateStudy", creating(domain(scale=study_pb2.SCALE_LOG)), (f"{X}.min",), "low > 0")
    yield Case("35-no-parameters", "CreateStudy", creating(lambda s: s.ClearField("parameters")), ("study.spec.parameters",), "1 to 2000")
    yield Case("36-2001-parameters", "CreateStudy", creating(lambda s: s.parameters.extend(double(f"p{i}") for i in range(2000))), ("study.spec.parameters",), "1 to 2000")
    kind = "study.spec.parameters[1].categorical_domain.values"
    yield Case("37-an-empty-category", "CreateStudy", creating(categories("a", "")), (f"{kind}[1]",), "not be empty")
    yield Case("37-duplicate-categories", "CreateStudy", creating(categories("a", "b", "a", "b")), (f"{kind}[2]", f"{kind}[3]"), "twice")
    yield Case("38-one-category", "CreateStudy", creating(categories("a")), (kind,), "use Fixed")
    yield Case("38-no-category", "CreateStudy", creating(categories()), (kind,), "2 to 1000")
    yield Case("38-1001-categories", "CreateStudy", creating(categories(*map(str, range(1001)))), (kind,), "2 to 1000")
    yield Case("39-conditions-in-a-circle", "CreateStudy", creating(circle), ("study.spec.parameters[1].active_if",), "circle")
    yield Case("40-a-constraint-on-nobody", "CreateStudy", creating(linear(z=1.0)), ("study.spec.parameter_constraints[0].linear.coefficients[z]",), "no parameter 'z'")
    yield Case("40-a-constraint-the-wrong-way-round", "CreateStudy", creating(linear(lower=2.0)), ("study.spec.parameter_constraints[0].linear.lower",), "above upper")
    yield Case("40-a-condition-on-nobody", "CreateStudy", creating(both(circle, lambda s: s.parameters.__delitem__(2))), ("study.spec.parameters[1].active_if.between.parent",), "no parameter 'b'")
    yield Case("41-a-condition-too-deep", "CreateStudy", creating(deep(16)), ("study.spec.parameters[1].active_if",), "at most 16 levels")
    yield Case("41-a-condition-deeper-than-messages-go", "CreateStudy", lambda _: nested_conditions(20_000), ("",), "not a valid CreateStudyRequest")
    yield Case("42-another-definition-under-the-name", "CreateStudy", lambda w: creating(study_id=w.study.rpartition("/")[2])(w), (), "another definition: .*parameters", EXISTS, "STUDY_EXISTS_WITH_OTHER_SPEC")
    # 43: definitions never change; the etag guards deletion.
    yield Case("43-a-stale-etag", "DeleteStudy", lambda w: pb.DeleteStudyRequest(name=w.study, etag="stale", request_id=new_id()), (), "changed since", ABORTED, "ETAG_MISMATCH")
    unknown = "known to this version, not 99"
    yield Case("44-an-unknown-scale", "CreateStudy", creating(domain(scale=99)), (f"{X}.scale",), unknown)
    yield Case("44-an-unknown-role", "CreateStudy", creating(of("parameters.0", role=99)), ("study.spec.parameters[0].role",), "99 is not supported")
    yield Case("44-unknown-enums-of-a-metric", "CreateStudy", creating(of("metrics.0", kind=99, goal=99, noise=99)), tuple(f"study.spec.metrics[0].{each}" for each in ("kind", "goal", "noise")), unknown)
    yield Case("44-an-unknown-quality", "CreateStudy", creating(of("strategy.gp", quality=99)), ("study.spec.strategy.gp.quality",), unknown)
    yield Case("44-an-unknown-strategy", "CreateStudy", creating(lambda s: s.strategy.MergeFromString(b"\x9a\x06\x00")), ("study.spec.strategy",), "one of auto")
    yield Case("44-an-unknown-if-exists", "CreateStudy", creating(if_exists=99), ("if_exists",), unknown)
    yield Case("44-an-unknown-way-to-degrade", "AskTrials", asking(degrade=99), ("degrade",), unknown)
    yield Case("44-an-unknown-state", "ListTrials", lambda w: listing(w.study, 4, 99), ("states[1]",), "must be a state")
    yield Case("35-no-definition", "CreateStudy", sending(pb.CreateStudyRequest(parent=PARENT, study_id="bad", request_id=new_id())), ("study.spec",), "must be set", reason="INVALID")
    yield Case("35-no-metrics", "CreateStudy", creating(lambda s: s.ClearField("metrics")), ("study.spec.metrics",), "exactly one objective")
    # 45: a seed is a uint64 on the wire, which can be neither negative nor 2**64.
    yield Case("45-settings-out-of-range", "CreateStudy", creating(of("strategy.cma_es", sigma0=NAN, population=-1, quorum=2.0)), tuple(f"study.spec.strategy.cma_es.{each}" for each in ("sigma0", "population", "quorum")), r"in \(0, 1\]")
    yield Case("45-budgets-out-of-range", "CreateStudy", creating(of("budget", max_trials=-1, max_cost=NAN)), ("study.spec.budget.max_trials", "study.spec.budget.max_cost"), r"in \[1, ")
    yield Case("45-a-strategy-that-cannot", "CreateStudy", creating(both(linear(), lambda s: s.strategy.cma_es.SetInParent())), ("study.spec.strategy",), "these can: ", reason="ALGORITHM_CANNOT_HANDLE_SPEC")


BAD_NAMES = {
    "46-sql-injection": "x'; drop table trial;--",
    "47-nul": "a\0b",
    "49-right-to-left": "a\u202eb",
    "49-zero-width": "a\u200bb",
    "49-homoglyph": "\u0455tudy",
    "51-129-characters": "x" * 129,
    "51-empty": "",
    "52-climbing": "../../etc/passwd",
    "52-percent-encoded": "%2e%2e",
    "52-doubly-encoded": "%252e%252e%252f",
    "52-absolute": "/etc/passwd",
    "52-unc": "\\\\host\\share",
    "52-dots": "..",
    "53-escapes": "\x1b[31mred",
    "53-newline": "a\nFAKE LOG LINE",
    "54-format-string": "%s{0.__class__}",
    "55-formula": "=cmd()",
    "56-emoji": "\U0001f600",
}


def names() -> Iterator[Case]:
    """46 to 56: names, and text that people will see."""
    for name, text in BAD_NAMES.items():
        yield Case(f"{name}-as-a-study", "CreateStudy", creating(study_id=text), ("study_id",), "A-Z a-z 0-9")
        yield Case(f"{name}-as-a-study-to-get", "GetStudy", sending(pb.GetStudyRequest(name=f"{PARENT}/studies/{text}")), ("name",), "must look like")
        yield Case(f"{name}-as-a-project", "ListStudies", sending(pb.ListStudiesRequest(parent=f"projects/{text}")), ("parent",), "must look like")
        yield Case(f"{name}-as-a-trial", "GetTrial", trial_called(text), ("name",), "must")
        yield Case(f"{name}-as-a-parameter", "CreateStudy", creating(renamed("parameters", text)), ("study.spec.parameters[0].id",), "must")
        yield Case(f"{name}-as-a-metric", "CreateStudy", creating(renamed("metrics", text)), ("study.spec.metrics[0].id",), "must")
    yield Case("46-sql-injection-as-a-page-token", "ListTrials", lambda w: pb.ListTrialsRequest(parent=w.study, page_token="' or 1=1 --"), ("page_token",), "next_page_token")
    # 46 and 56 as free text are accepted verbatim, see test_bad_input.
    yield Case("47-nul-in-a-display-name", "CreateStudy", creating(study=study_pb2.Study(display_name="a\0b")), ("study.display_name",), "control characters")
    yield Case("47-nul-in-a-label", "CreateStudy", creating(study=study_pb2.Study(labels={"a": "\0"})), ("study.labels[a]",), "control characters")
    yield Case("47-nul-in-a-category", "CreateStudy", creating(categories("a", "b\0")), ("study.spec.parameters[1].categorical_domain.values[1]",), "control characters")
    yield Case("48-invalid-utf-8", "CreateStudy", spliced(creating(study_id="bad"), b"bad", b"b\xffd"), ("",), "not a valid CreateStudyRequest")
    yield Case("48-invalid-utf-8-in-a-point", "CreateTrial", spliced(enqueue(kind="sgd!"), b"sgd!", b"s\xc3\x28!"), ("",), "not a valid CreateTrialRequest")
    yield Case("49-right-to-left-in-a-display-name", "CreateStudy", creating(study=study_pb2.Study(display_name="a\u202eb")), ("study.display_name",), "control characters")
    yield Case("50-one-letter-composed-and-not", "CreateStudy", creating(categories("\u00e9", "e\u0301")), ("study.spec.parameters[1].categorical_domain.values[1]",), "twice")
    yield Case("51-text-too-long", "CreateStudy", creating(study=study_pb2.Study(display_name="x" * 1025, labels={"a": "x" * 1025, "-": ""})), ("study.display_name", "study.labels[a]", "study.labels[-]"), "at most 1024")
    yield Case("51-65-labels", "CreateStudy", creating(study=study_pb2.Study(labels={f"l{i}": "" for i in range(65)})), ("study.labels",), "at most 64")
    yield Case("53-escapes-in-a-worker", "AskTrials", asking(worker_id="\x1b[31m"), ("worker_id",), "printable")
    # 52 in names of files: the server writes none, and the command line only those that its user
    # names. 55 in an export: tests/unit/cli/test_output.py.


def protocol() -> Iterator[Case]:
    """57 to 64 and 90 to 96: messages, pages, request ids. 61 to 64 are in test_bad_input."""
    yield Case("57-garbage", "CreateStudy", lambda _: b"\xff" * 100, ("",), "not a valid")
    yield Case("57-garbage-told", "TellTrials", lambda _: bytes(range(256)), ("",), "not a valid")
    yield Case("58-truncated", "TellTrials", lambda w: telling(outcome())(w).SerializeToString()[:-3], ("",), "not a valid")
    # Field 1 (parent) and field 2 (name of a study) as numbers: unknown fields, so missing.
    yield Case("59-wrong-wire-type", "CreateStudy", lambda _: b"\x08\x01\x10\x01", ("request_id", "parent", "study_id", "study.spec"), "must")
    yield Case("60-200000-nested-groups", "CreateStudy", lambda _: b"\x0b" * 200_000, ("",), "not a valid")
    for count in (-1, 257, -(2**31)):
        yield Case(f"90-a-count-of-{count}", "AskTrials", asking(count=count), ("count",), r"in \[0, 256\]")
    # 90: a count of 0 means 1. 91: an ask of a finished study says so, see test_bad_input.
    yield Case("91-a-point-for-a-finished-study", "CreateTrial", lambda w: pb.CreateTrialRequest(parent=w.finished, parameters={"x": value(0.5)}, request_id=new_id()), (), "COMPLETED", PRECONDITION, "STUDY_NOT_ACTIVE")
    # 92: trials are numbered by the server; there is nothing to collide with.
    yield Case("92-a-trial-beyond-int64", "GetTrial", lambda w: pb.GetTrialRequest(name=f"{w.study}/trials/{2**63}"), ("name",), "number of a trial")
    yield Case("92-a-trial-of-another-study", "TellTrials", lambda w: telling(outcome(), f"{w.other}/trials/1")(w), ("trial",), "must be a trial of")
    yield Case("92-a-trial-that-is-not-there", "TellTrials", telling(outcome(), "999"), (), "999", NOT_FOUND)
    yield Case("92-a-study-that-is-not-there", "GetStudy", sending(pb.GetStudyRequest(name=f"{PARENT}/studies/none")), (), "no study", NOT_FOUND)
    yield Case("92-a-study-that-is-not-there-to-watch", "WatchStudy", sending(pb.WatchStudyRequest(name=f"{PARENT}/studies/none")), (), "no study", NOT_FOUND)
    yield Case("92-a-tell-and-an-ask-of-two-studies", "TellAndAsk", lambda w: pb.TellAndAskRequest(tell=pb.TellTrialsRequest(parent=w.study, tells=[pb.Tell(trial="1", outcome=outcome())]), ask=pb.AskTrialsRequest(parent=w.other), request_id=new_id()), ("ask.parent",), "as in tell")
    yield Case("92-nothing-to-tell", "TellTrials", lambda w: pb.TellTrialsRequest(parent=w.study, request_id=new_id()), ("tells",), "1 to 1000")
    # 93: exports are listings; a deleted study is NOT_FOUND from then on.
    forged = "next_page_token of the same request"
    yield Case("94-a-page-token-forged", "ListTrials", lambda w: pb.ListTrialsRequest(parent=w.study, page_size=1, page_token="MTAwLmZmZmY="), ("page_token",), forged)
    yield Case("94-a-page-token-of-another-study", "ListTrials", lambda w: pb.ListTrialsRequest(parent=w.other, page_size=1, page_token=w.page_token), ("page_token",), forged)
    yield Case("94-a-page-token-of-other-filters", "ListTrials", lambda w: listing(w.study, 1, page_size=1, page_token=w.page_token), ("page_token",), forged)
    yield Case("94-a-page-token-of-another-method", "ListStudies", lambda w: pb.ListStudiesRequest(parent=PARENT, page_token=w.page_token), ("page_token",), forged)
    # 95: ids belong to one method of one project; within these see test_bad_input.
    for name, bad_id in (("empty", ""), ("a-megabyte", "x" * 2**20), ("short", "x" * 7), ("odd", "x" * 8 + "\n")):
        yield Case(f"96-request-id-{name}", "AskTrials", asking(request_id=bad_id), ("request_id",), "8 to 64")


def at_once() -> Iterator[Case]:
    """Faults of several parts of one request."""
    wrong = study_pb2.Study(display_name="\0", labels={"?": ""})
    yield Case(
        "all-at-once-a-definition",
        "CreateStudy",
        creating(
            both(
                domain(min=2.0, max=1.0),
                lambda s: s.parameters.add(id="unset"),
                lambda s: s.parameters.add().CopyFrom(double("w", 1.0, 0.0)),
                lambda s: s.metrics.add(id="a", kind=99),
                lambda s: s.metrics.add(id="b", kind=2),
                of("budget", max_trials=0),
                of("lease", max_attempts=-1),
                of("fidelity", id="e", low=5, high=1),
                of("strategy.gp", n_initial=-1),
            ),
            study_id="?",
            parent="nowhere",
            request_id="",
            if_exists=99,
            study=wrong,
        ),
        (
            "request_id",
            "parent",
            "study_id",
            "if_exists",
            "study.display_name",
            "study.labels[?]",
            "study.spec.parameters[0].double_domain.min",
            "study.spec.parameters[1].domain",
            "study.spec.parameters[2].double_domain.min",
            "study.spec.metrics[1].kind",
            "study.spec.metrics[2].upper",
            "study.spec.budget.max_trials",
            "study.spec.lease.max_attempts",
            "study.spec.fidelity.high",
            "study.spec.strategy.gp.n_initial",
        ),
    )
    yield Case(
        "all-at-once-an-observation",
        "CreateTrial",
        lambda w: pb.CreateTrialRequest(parent=w.study, parameters={"x": value(7.0), "y": value(None), "z": value(1), "n": value(1.5)}, outcome=outcome(loss=NAN, zzz=1.0, cost=-1.0), labels={"?": ""}, request_id=new_id()),
        (*(f"parameters[{each}]" for each in ("x", "y", "z", "n", "rate", "kind", "flag")), *(f"outcome.completed.metrics[{each}" for each in ("loss].value", "zzz]", "cost].value")), "labels[?]"),
    )
    bad = outcome(loss=INF, zzz=1.0)
    bad.completed.metrics.pop("mass")
    bad.completed.step = -1
    told = (f"{LOSS}.value", "outcome.completed.metrics[zzz]", "outcome.completed.metrics[mass]", "outcome.completed.step")
    yield Case("all-at-once-a-tell", "TellTrials", telling(bad, "zero"), ("trial", *told))
    yield Case("all-at-once-an-amendment", "AmendTrial", lambda w: pb.AmendTrialRequest(name=w.done.name, outcome=bad, request_id=new_id()), told)
    yield Case("all-at-once-an-amendment-of-nothing", "AmendTrial", lambda _: pb.AmendTrialRequest(name="x", outcome=bad, reason="\0"), ("request_id", "name", "reason", f"{LOSS}.value", "outcome.completed.step"))
    yield Case("all-at-once-a-report", "ReportMeasurements", reporting(step(None, loss=NAN, zzz=1.0), step(1, yyy=1.0)), ("measurements[0].metrics[loss].value", "measurements[0].step", "measurements[0].metrics[zzz]", "measurements[1].metrics[yyy]"))
    yield Case("all-at-once-an-ask", "AskTrials", asking(parent="s", request_id="", count=-1, worker_id="\0", degrade=9, lease_duration=Duration(seconds=-1), max_wait=Duration(seconds=-1)), ("request_id", "parent", "count", "worker_id", "degrade", "lease_duration", "max_wait"))
    yield Case("all-at-once-tell-and-ask", "TellAndAsk", lambda _: pb.TellAndAskRequest(tell=pb.TellTrialsRequest(parent="a"), ask=pb.AskTrialsRequest(parent="b", count=-1)), ("request_id", "tell.parent", "tell.tells", "ask.parent", "ask.count"))
    yield Case("all-at-once-a-listing", "ListStudies", lambda _: pb.ListStudiesRequest(parent="x", page_size=-1), ("parent", "page_size"))
    yield Case("all-at-once-a-listing-of-trials", "ListTrials", lambda _: listing("x", 0, page_size=1001, since_revision=-1), ("parent", "page_size", "states[0]", "since_revision"))
    yield Case("all-at-once-a-release", "ReleaseTrials", lambda w: pb.ReleaseTrialsRequest(parent=w.study, reason="\0", held=[pb.HeartbeatTrialsRequest.Held(trial=each) for each in ("1", "x", "0")]), ("request_id", "reason", "held[1].trial", "held[2].trial"))
    yield Case("all-at-once-a-stop", "StopTrial", lambda _: pb.StopTrialRequest(name="x", reason="\0"), ("request_id", "name", "reason"))
    yield Case("all-at-once-a-prediction", "Predict", lambda _: insight_pb2.PredictRequest(name="x"), ("name", "points"))
    wrong_points = [insight_pb2.Point(parameters={"x": value(each)}) for each in (0.5, 2.0, None)]
    yield Case("all-at-once-points-to-predict", "Predict", lambda w: insight_pb2.PredictRequest(name=w.other, points=wrong_points), ("points[1].parameters[x]", "points[2].parameters[x]"))
    yield Case("all-at-once-a-watch", "WatchStudy", lambda _: pb.WatchStudyRequest(name="x", since_revision=-1), ("name", "since_revision"))


CASES = tuple(itertools.chain(values(), definitions(), names(), protocol(), at_once()))

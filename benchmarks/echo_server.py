"""A bare gRPC server that answers what it was sent: the ceiling of any service like ours.

Only for ``benchmarks.service``: the same grpc.aio, one event loop in one process, bytes in and
bytes out, and nothing behind it. It prints its port and runs until it is told to stop.
"""

import asyncio
import sys

import grpc

METHOD = "/bbopt.benchmarks.Echo/Echo"


async def _echo(request: bytes, _: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
    return request


async def _serve() -> None:
    _, service, method = METHOD.split("/")
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
        _echo, None, None
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve())

"""What a client shares with its studies and trials."""

from dataclasses import dataclass
from uuid import uuid4

from bbopt_client.connection import Connection
from bbopt_client.delivery import Delivery
from bbopt_client.heartbeat import Heartbeats
from bbopt_client.settings import ClientOptions


@dataclass(frozen=True, slots=True)
class Session:
    """The open ends of one client."""

    connection: Connection
    heartbeats: Heartbeats
    delivery: Delivery
    options: ClientOptions
    worker: str
    """Names this client as the holder of its trials."""

    def close(self) -> None:
        """Give results that are on their way some time, then end everything."""
        self.heartbeats.stop()
        self.delivery.flush(self.options.close_timeout_s)
        self.delivery.stop()
        self.connection.close()
        self.heartbeats.join(self.options.close_timeout_s)
        self.delivery.join(self.options.close_timeout_s)
        if self.delivery.outbox is not None:
            self.delivery.outbox.close()


def new_request_id() -> str:
    """Name one logical call; every attempt carries the same name."""
    return uuid4().hex

"""What a Milvus holds, read without changing anything (the history itself would create what is missing)."""

import logging
from dataclasses import dataclass

import grpc
from pymilvus import MilvusClient, MilvusException

from modelpilot.errors import DependencyUnavailable

_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class RecordedEmbedder:
    """Whose vectors a collection holds."""

    name: str | None
    dimension: str | None


def recorded_embedder(uri: str, token: str = "", collection: str = "prompt_outcomes") -> RecordedEmbedder | None:
    """The embedder recorded beside the vectors, None where there is no collection yet. Blocks.

    Raises DependencyUnavailable.
    """
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs each failed call with a traceback
    try:
        client = MilvusClient(uri, token=token, timeout=_TIMEOUT_S, dedicated=True)
        try:
            if not client.has_collection(collection, timeout=_TIMEOUT_S):
                return None
            found = client.describe_collection(collection, timeout=_TIMEOUT_S).get("properties", {})
        finally:
            client.close()
    except (MilvusException, grpc.RpcError) as error:
        raise DependencyUnavailable(f"Milvus does not answer ({type(error).__name__})") from error
    return RecordedEmbedder(found.get("modelpilot.embedder"), found.get("modelpilot.dimension"))

"""Reasoning that clients carry back to us: what we sealed opens, and nothing else does."""

from infra.crypto.keyring import Keyring, generate_key
from infra.crypto.reasoning import SealedReasoning


def test_what_was_sealed_opens_for_its_owner_alone() -> None:
    """Also after a newer key was put in front; another tenant's is nothing, nor is a stranger's or an altered one."""
    old, new = generate_key(), generate_key()
    sealed = SealedReasoning(Keyring([old])).seal("alice", {"message": {"reasoning_content": "Hm"}})
    rotated = SealedReasoning(Keyring([new, old]))
    assert rotated.open("alice", sealed) == {"message": {"reasoning_content": "Hm"}}
    assert rotated.open("bob", sealed) is None
    assert rotated.open("alice", "gAAAAABo-not-ours") is None
    assert rotated.open("alice", sealed[:-8] + "AAAAAAA=") is None
    assert SealedReasoning(Keyring([new])).open("alice", sealed) is None

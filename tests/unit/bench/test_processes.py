"""Processes of an installation: which is which, and what they used between two readings."""

import pytest

from bench.processes import CLIENT, Part, Usage, cpu_used, in_order, role_of, summed


@pytest.mark.parametrize(
    ("command", "role"),
    [
        ("/venv/bin/python -m cli gateway", "gateway"),
        ("/venv/bin/python -m cli closer", "closer"),
        ("/venv/bin/python -m cli simulator --port 9090", "simulator"),
        ("/wheel/bin/postgres -D /data/postgres -k /data/postgres -c max_connections=200", "postgres"),
        ("/venv/bin/temporal server start-dev --ip 127.0.0.1", "temporal"),
        ("/venv/bin/python3 /venv/bin/milvus-lite server --data-dir /data/milvus", "milvus"),
        ("/venv/bin/python -m pytest gateway", None),
        ("/venv/bin/python -m cli", None),
        ("/venv/bin/python -m", None),
        ("/bin/cat /data/postgres/log", None),
        ("", None),
    ],
)
def test_role_is_told_by_the_command_line(command: str, role: str | None) -> None:
    """A figure under the wrong name would be worse than none; a process that comes later (closer) needs no change."""
    assert role_of(command.split()) == role


def test_shared_pages_are_counted_once() -> None:
    """Postgres' backends all map the same buffers: adding up their RSS would show several times what they take."""
    mib = 1_048_576
    used = summed([7], [Part(1.0, 100 * mib, 60 * mib), Part(0.25, 70 * mib, 50 * mib), Part(0.0, 5 * mib, 0)])
    assert used == Usage(pids=(7,), cpu_ms=1_250.0, memory_mb=40 + 20 + 5 + 60)


def test_memory_of_one_process_is_its_rss() -> None:
    """What others show for the same process is shown here, too."""
    assert summed([7], [Part(0.0, 3 * 1_048_576, 2 * 1_048_576)]).memory_mb == 3.0


def test_cpu_between_readings() -> None:
    """A restarted process, or one that has just come, has used an unknown amount and not a negative one."""
    before = {"gateway": Usage((1,), 100.0, 1.0), "worker": Usage((2,), 900.0, 1.0), "milvus": Usage((4,), 5.0, 1.0)}
    after = {"gateway": Usage((1,), 130.0, 1.0), "worker": Usage((3,), 10.0, 1.0), "closer": Usage((5,), 50.0, 1.0)}
    assert cpu_used(before, after) == {"gateway": 30.0, "worker": None, "closer": None}


def test_roles_have_one_order() -> None:
    """Tables of two runs can be laid beside each other, whatever order the processes were found in."""
    usage = Usage((1,), 0.0, 0.0)
    found = in_order(dict.fromkeys([CLIENT, "portkey", "simulator", "gateway", "closer"], usage))
    assert list(found) == ["gateway", "closer", "simulator", "portkey", CLIENT]

"""What a method costs: what its seeds share, each of them pays."""

from tasks.runtime.costs import with_shared


def test_what_seeds_share_belongs_to_each() -> None:
    shared = {"seconds": 400.0, "memory": 6.0}
    spent = {None: shared, "seed 1": {"seconds": 100.0, "memory": 5.0, "tokens": 9.0}, "seed 2": {"seconds": 50.0}}
    assert with_shared(spent) == {
        "seed 1": {"seconds": 500.0, "memory": 6.0, "tokens": 9.0},
        "seed 2": {"seconds": 450.0, "memory": 6.0},
    }


def test_a_method_without_seeds_is_as_it_was() -> None:
    assert with_shared({None: {"seconds": 3.0}}) == {None: {"seconds": 3.0}}
    assert with_shared({"seed 0": {"seconds": 3.0}}) == {"seed 0": {"seconds": 3.0}}

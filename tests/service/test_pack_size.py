"""How large a pack is: as a table of reaches and what is left of them."""

import pytest

from service.cost import CostModel
from service.pack_size import Reach, cut_reach, target_tokens

COST = CostModel(seconds_per_token=1e-3, seconds_per_call=10e-3)
LATE = 100.0


def reach(
    tokens: list[int],
    completed: list[int],
    num_waiting: int,
    front: int | None = None,
    partial: bool = False,
    seconds_left: float = LATE,
) -> Reach:
    return Reach(tokens, completed, num_waiting, front, partial, seconds_left)


@pytest.mark.parametrize(
    ("per_call", "expected"),
    [(0.0, 16), (1e-3, 19), (5e-3, 95), (1.0, 128)],
    ids=["calls are free", "small packs pay", "larger ones", "as large as may be"],
)
def test_a_pack_is_as_large_as_throughput_gains(per_call: float, expected: int) -> None:
    assert target_tokens(CostModel(1e-3, per_call), 128) == expected


@pytest.mark.parametrize(
    ("one", "number"),
    [
        pytest.param(reach([20, 20], [1, 2], 2), 2, id="all complete: nothing is filler"),
        pytest.param(reach([20, 20], [0, 0], 1), 2, id="none completes: nobody waits less"),
        pytest.param(reach([20, 50], [1, 1], 2), 1, id="50 ms for one against 10 ms for one"),
        pytest.param(reach([20, 50], [1, 1], 7), 2, id="50 ms for one against 10 ms for six"),
        pytest.param(reach([20, 20, 50], [1, 2, 2], 7), 2, id="50 ms for two against 10 ms for five"),
        pytest.param(reach([20, 5], [1, 1], 2), 2, id="5 ms for one against 10 ms for one"),
        pytest.param(reach([20, 20], [0, 0], 1, partial=True, seconds_left=0.04), 1, id="what is done in time"),
        pytest.param(reach([20, 20], [0, 0], 1, partial=True, seconds_left=0.05), 2, id="both are done in time"),
        pytest.param(reach([20, 20], [0, 0], 1, partial=True, seconds_left=0.001), 1, id="one at least"),
        pytest.param(reach([20, 5, 5], [1, 2, 3], 9, front=0, seconds_left=0.031), 1, id="others would make it late"),
        pytest.param(reach([20, 5, 5], [1, 2, 3], 9, front=0, seconds_left=0.041), 3, id="others do not"),
        pytest.param(reach([20, 20], [0, 1], 9, front=None, seconds_left=0.02), 2, id="not done in this pack anyway"),
    ],
)
def test_what_goes(one: Reach, number: int) -> None:
    assert cut_reach(one, COST) == number

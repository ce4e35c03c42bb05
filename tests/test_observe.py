"""A new frame: cuts, doubt, and what leaves the picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from carvid.config import TemporalConfig
from carvid.temporal.observe import alive_queries
from carvid.temporal.state import TemporalState
from tests.squares import SIZE_HW, known_state, meet, moving, texture


def test_missed_queries_are_dropped_and_offered_again() -> None:
    config = TemporalConfig(drop_after=2, reoffer_every=3)
    state = TemporalState.initial(2)
    missed = replace(state, misses=np.array([0, 2]))
    assert alive_queries(state, config).tolist() == [True, True]
    assert alive_queries(missed, config).tolist() == [True, False]
    assert alive_queries(replace(missed, since_offer=2), config).tolist() == [True, True]
    alone = replace(config, carry_queries=False)
    assert alive_queries(missed, alone).tolist() == [True, True]


def test_a_cut_forgets_everything() -> None:
    config, state = TemporalConfig(), known_state()
    same = meet(state, next(moving(2, step=1))[0], config)
    cut = meet(state, texture(9), config)
    assert not same.begins_shot and same.alive is None and len(same.carried) == 1
    assert cut.begins_shot and cut.alive is not None and cut.alive.all()
    assert not len(cut.state.owners) and cut.prior(SIZE_HW, config) is None


def test_doubt_asks_for_a_key_frame() -> None:
    config, state = TemporalConfig(key_every=99), known_state()
    image = next(moving(1))[0]
    assert meet(state, image, config).alive is None
    grown = replace(state, areas=state.areas // 6)
    assert meet(grown, image, config).alive is not None
    assert meet(state, image, replace(config, key_every=1)).alive is not None
    image[40:88, 20:68] = texture(7)[:48, :48]  # something else stands there now
    assert meet(state, image, replace(config, min_trust=0.9)).alive is not None
    assert meet(state, image, replace(config, min_trust=0.0)).alive is None


def test_a_thing_leaves_where_the_edge_cuts_it_off() -> None:
    config, state = TemporalConfig(), known_state()
    context = meet(state, next(moving(1))[0], config)

    def leaving(left: int, width: int) -> bool:
        carried = np.zeros((1, *SIZE_HW), np.uint8)
        carried[0, 40:88, left : left + width] = 255  # of 48 x 48 pixels at the key frame
        before = replace(context, carried=carried).prior(SIZE_HW, config)
        assert before is not None and before.at_edge.shape == (1,)
        return bool(before.at_edge[0])

    assert leaving(0, 30) and leaving(SIZE_HW[1] - 30, 30)
    assert not leaving(0, 40)  # it only touches the edge
    assert not leaving(20, 30)  # something hides it
    assert not leaving(0, 0)  # it has left

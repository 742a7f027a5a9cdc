from __future__ import annotations

from dataclasses import replace

import pytest

from skerry.core.errors import DataError
from skerry.core.model import TensorSpec
from skerry.core.release import (
    LIBRARIES_LEVEL,
    SCHEMAS_LEVEL,
    Library,
    read_manifest,
    write_manifest,
)
from skerry.core.schemas import (
    MOST_ADAPTERS,
    Change,
    SchemaAdapter,
    Schemas,
    check_adapters,
    way,
)
from tests.schemas import FROM_1, FROM_2, PAIR, RAW, TO_1, changing_release
from tests.unit.core.test_release import GOLDEN, MANIFEST, blob

RELEASE = changing_release(3).manifest


def test_a_way_leads_over_adapters_to_the_own_schema() -> None:
    """In their order; nowhere from what nobody knows, and never in a circle."""
    assert way("1", "3", (FROM_2, FROM_1)) == (FROM_1, FROM_2)
    assert way("3", "3", (FROM_1,)) == ()
    assert way("0", "3", (FROM_1, FROM_2)) is None
    circle = (replace(FROM_1, to="2"), replace(FROM_2, to="1"))
    assert way("1", "3", circle) is None


def test_a_release_names_its_ways() -> None:
    """Of inputs and of outputs; both must be there."""
    assert RELEASE.ways(Schemas(input="1", output="1")) == ((FROM_1, FROM_2), (TO_1,))
    assert RELEASE.ways(Schemas(input="1", output="9")) is None
    assert RELEASE.ways(RELEASE.schemas) == ((), ())


def test_an_older_agent_is_told_to_upgrade_first() -> None:
    """It would overlook what it does not know."""
    assert MANIFEST.needs_level == 1
    assert RELEASE.needs_level == SCHEMAS_LEVEL
    library = Library(abi="linux-x86_64", blob=blob("1"))
    model = replace(MANIFEST.models[0], libraries=(library,))
    assert replace(MANIFEST, models=(model,)).needs_level == LIBRARIES_LEVEL


def test_a_manifest_with_adapters_stays_readable() -> None:
    """The committed one reads as it did when it was written."""
    assert read_manifest(GOLDEN.with_stem("release-1-schemas").read_bytes()) == RELEASE


BAD = {
    "twice": (FROM_1, FROM_1),
    "own": (replace(FROM_1, version="3"),),
    "nowhere": (replace(FROM_1, to="9"),),
    "circle": (replace(FROM_1, to="2"), replace(FROM_2, to="1")),
    "version": (replace(FROM_2, version="a/b"),),
    "empty": (replace(FROM_2, version=""),),
    "tensors": (replace(FROM_2, tensors=()),),
    "named twice": (replace(FROM_2, tensors=(PAIR, PAIR)),),
    "changed twice": (replace(FROM_2, changes=FROM_2.changes[:1] * 2),),
    "infinite": (replace(FROM_2, changes=(Change(tensor="x", factor=float("inf")),)),),
    "default": (replace(FROM_2, changes=(Change(tensor="x", default=float("nan")),)),),
    "dtype": (replace(FROM_2, tensors=(replace(PAIR, dtype="float31"),)),),
    "size": (replace(FROM_2, tensors=(replace(PAIR, shape=(1 << 20, 2)),)),),
    "many": tuple(
        replace(FROM_2, version=str(number + 10)) for number in range(MOST_ADAPTERS + 1)
    ),
}


@pytest.mark.parametrize("adapters", BAD.values(), ids=BAD)
def test_adapters_that_make_no_sense(adapters: tuple[SchemaAdapter, ...]) -> None:
    """Refused with the release's name and what is wrong."""
    with pytest.raises(DataError, match=r"^meter/3 "):
        check_adapters("3", adapters, name="meter/3")


UNMADE = {
    "its source is missing": replace(
        FROM_2, changes=(Change(tensor="x", resize=True),)
    ),
    "its source has another size": replace(
        FROM_2, changes=(Change(tensor="x"), Change(tensor="bias", default=0.0))
    ),
    "number of dimensions": replace(
        FROM_2, tensors=(replace(PAIR, shape=("N", 2, 1)),)
    ),
    "cannot be changed by numbers": replace(
        FROM_2, tensors=(replace(PAIR, dtype="str"),)
    ),
    "no tensor that it makes": replace(
        FROM_2, changes=(*FROM_2.changes, Change(tensor="other"))
    ),
}


@pytest.mark.parametrize(("what", "adapter"), UNMADE.items(), ids=UNMADE)
def test_an_adapter_must_make_each_tensor(what: str, adapter: SchemaAdapter) -> None:
    """Else the manifest is refused, before anything is downloaded."""
    manifest = replace(RELEASE, input_adapters=(adapter,))
    with pytest.raises(DataError, match=what):
        read_manifest(write_manifest(manifest))


def test_the_outputs_side_is_checked_the_other_way_round() -> None:
    """What consumers read is made of what the model gives."""
    adapter = replace(TO_1, changes=(Change(tensor="percent", source="z"),))
    manifest = replace(RELEASE, output_adapters=(adapter,))
    with pytest.raises(DataError, match="cannot make percent"):
        read_manifest(write_manifest(manifest))


def test_a_schema_is_shown_short() -> None:
    """As the command line takes it."""
    assert str(Schemas(input="2", output="1")) == "2/1"
    assert TensorSpec(name="raw", dtype="uint8", shape=("N", 2)) == RAW

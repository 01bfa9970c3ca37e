"""Both workers make the same of a request, to the bit and to the letter. `make fuzz` compares many more."""

import pytest

from tests.native.cases import make_case
from tests.native.comparison import Comparison, Regions, compare_all, found
from tests.native.decode_tool import PROGRAM, Refusal
from tests.native.models import SPECS

CASES = 4000

pytestmark = pytest.mark.skipif(not PROGRAM.is_file(), reason="the native worker was not built; make ext says why")


def test_generated_requests(tmp_path):
    counts, differences = compare_all(PROGRAM, 1, range(CASES), tmp_path)
    table = "\n".join(counts.table())
    assert not differences, "\n".join(f"{path}\n{difference}" for path, difference in differences)
    # Neither is there a kind of which all are refused, nor one of which all are accepted.
    kinds = counts.accepted.keys() | counts.refused.keys()
    assert kinds == counts.refused.keys() and kinds - counts.accepted.keys() <= {"JSON, odd", "junk"}, table
    assert counts.accepted.total() > CASES / 4 and counts.refused.total() > CASES / 4, table


def test_every_model_is_asked():
    """Every signature is that of a request."""
    assert {make_case(1, number, "p-").model for number in range(CASES)} == set(SPECS)


def test_a_difference_is_found():
    """The status, the field, and all of the message but what a library says."""
    error = Refusal(400, "x", "'x' is not valid JSON: one", False)
    assert found("", error, error._replace(message="'x' is not valid JSON: two")) is None
    for other in (
        error._replace(status=413),
        error._replace(field=None),
        error._replace(message="'y' is not valid JSON: one"),
    ):
        assert found("", error, other)


def test_a_case_is_always_the_same():
    with Regions("opserve-compared-a-") as regions, Comparison(PROGRAM, regions) as comparison:
        first, second = (comparison.compare_case(3, 17) for _ in range(2))
    assert first == second

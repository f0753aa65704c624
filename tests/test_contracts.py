"""What methods, data and backbones exchange."""

from tests.tiny import batch_of


def test_no_rows_of_a_batch_are_an_empty_batch() -> None:
    batch = batch_of([[5, 6], [7]], ((20,), (21, 22)))
    assert len(batch.select([])) == 0
    assert batch.select([1]).rows == batch.rows[1:]

"""The settings of `softcue-predict`, checked before anything is loaded."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, PositiveInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from softcue.data.tables import TEXT_FORMATS, table_format
from softcue.errors import ConfigError
from softcue.predict.schema import OUTPUT_FORMATS, SEPARATORS


@dataclass(frozen=True, kw_only=True, config=ConfigDict(coerce_numbers_to_str=True))
class PredictSettings:
    """What conf/predict.yaml documents; ConfigError for values that do not fit together."""

    run: str
    task: str | None
    input: str
    output: str
    format: Literal["csv", "tsv", "json", "jsonl", "raft"] | None
    column: str | None
    encoding: str
    separator: str | None
    escape_formulas: bool
    on_bad_row: Literal["fail", "skip"]
    overwrite: bool
    batch_size: PositiveInt
    chunk_rows: PositiveInt
    dry: bool

    def __post_init__(self) -> None:
        written = self.output_format
        if self.format == "raft" and written != "csv":
            raise ConfigError(f"output is {self.output}, and format=raft writes CSV; name it *.csv.")
        if self.format in TEXT_FORMATS and "-" not in (self.input, self.output):
            raise ConfigError(
                f"format={self.format} is the format of stdin or stdout, and neither is used; that of a file "
                "follows from its suffix."
            )
        if self.escape_formulas and written not in SEPARATORS:
            raise ConfigError(f"escape_formulas=true is for CSV and TSV; the output is {written}.")
        if self.input != "-":
            table_format(self.input)

    @classmethod
    def of(cls, given: object) -> PredictSettings:
        """Check the types and values of `given`; ConfigError for the first that is wrong."""
        try:
            return TypeAdapter(cls).validate_python(given)
        except ValidationError as error:
            wrong = error.errors()[0]
            key, expected = wrong["loc"][0], wrong["msg"].removeprefix("Input should be ")
            raise ConfigError(f"{key} is {wrong['input']!r}; it should be {expected}.") from error

    @property
    def stream_format(self) -> str:
        """The format of stdin and stdout."""
        return self.format if self.format in TEXT_FORMATS else "csv"

    @property
    def output_format(self) -> str:
        """One of OUTPUT_FORMATS, or json, which is written one object a line, to stdout."""
        return self.stream_format if self.output == "-" else table_format(self.output, known=OUTPUT_FORMATS)

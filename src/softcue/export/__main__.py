"""`softcue-export`: a trained prompt as a folder that others can load."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from softcue.cli import hydra_app, say
from softcue.errors import ConfigError

TARGETS = ("peft", "vllm")


@hydra_app("export")
def main(settings: DictConfig) -> None:
    """Export one run."""
    if settings.to not in TARGETS:
        raise ConfigError(f"to is {settings.to!r}; a prompt can be exported to {', '.join(TARGETS)}.")
    # Imports torch, for which a mistake in the settings need not wait.
    from softcue.export.adapter import expect_free, load_all, peft_files
    from softcue.export.vllm import vllm_files
    from softcue.formats.folder import recover_folder, write_folder

    output = Path(settings.output).resolve()
    recover_folder(output)
    expect_free(output, overwrite=settings.overwrite)
    make_files = peft_files if settings.to == "peft" else vllm_files
    files = make_files(load_all(settings.run, task=settings.task), name=output.name)
    listing = ", ".join(f"{name} ({len(content):,} bytes)" for name, content in files.items())
    if settings.dry:
        say(f"{output} would hold {listing}")
        return
    write_folder(output, files)
    say(f"{output} holds {listing}")


if __name__ == "__main__":
    main()

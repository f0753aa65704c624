"""A row inside the user's turn of a chat, as a model's own chat template writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from softcue.data.template import Soft, Template, Words, merge
from softcue.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_MARK = "softcue"


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What a chat has before and after the user's text, up to where the answer begins.

    Keys and values can only come in front of the whole row: `prefix_first` leaves leading virtual tokens
    there.
    """

    before: str
    after: str
    prefix_first: bool

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast, *, prefix_first: bool) -> Turn:
        """The turn of a tokenizer's chat template.

        Raises:
            ConfigError: it has none, or one that changes the user's text.
        """
        if tokenizer.chat_template is None:
            raise ConfigError(
                "backbone.chat is true, and this backbone's tokenizer has no chat template. Set "
                "backbone.chat=null, or choose a chat model."
            )
        message = {"role": "user", "content": _MARK}
        text = tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
        before, mark, after = str(text).partition(_MARK)
        if not mark or not after:
            raise ConfigError(
                "backbone.chat is true, and this backbone's chat template does not keep the user's text as "
                "it is. Set backbone.chat=null."
            )
        # Whatever the tokenizer puts in front of every text is there once.
        front = (
            str(tokenizer.bos_token or "")
            if tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
            else ""
        )
        return cls(before=before.removeprefix(front), after=after, prefix_first=prefix_first)

    def around(self, template: Template) -> Template:
        """The template inside the turn."""
        count = 0
        if self.prefix_first:
            is_soft = [isinstance(part, Soft) for part in template.segments]
            count = is_soft.index(False) if False in is_soft else len(is_soft)
        front, rest = template.segments[:count], template.segments[count:]
        turn = (Words(text=self.before), *rest, Words(text=self.after))
        return Template(segments=merge((*front, *turn)))

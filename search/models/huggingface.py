"""Hugging Face encoders of texts, with their own weights and tokenizers (extra `transformers`)."""

from typing import Any, Literal

from torch import Tensor, nn

from search.data.texts import Texts
from search.errors import TaskError
from search.models.network import Network, Parts, extra
from search.spec.tables import Model
from search.user_code import one_line


def transformers_network(name: str, model: Model) -> Network:
    """Return a Hugging Face encoder of texts: any `AutoModel`, by hub name or folder.

    Of an encoder-decoder it is the encoder. Options:

    max_length: tokens of a text.
    pooling: "mean" over the tokens, or "cls", the first token's state, or "pooler".

    "pooler" is that state through the model's own pretrained pooler, which then is the head's first part.
    """
    options = {"pooling": "mean", "max_length": 128} | model.options
    pooling, max_length = options.pop("pooling"), options.pop("max_length")
    if pooling not in ("mean", "cls", "pooler") or type(max_length) is not int or max_length < 2 or options:
        raise TaskError(
            f"[model] options = {model.options}; allowed for a transformers model: pooling "
            '("mean", "cls", "pooler") and max_length (tokens, at least 2).'
        )
    transformers = extra("transformers", f"[model] backbone = 'transformers/{name}'")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()

    def fetch(make: Any, what: str, source: str) -> Any:
        try:
            return make.from_pretrained(source, trust_remote_code=False)
        except Exception as error:
            raise TaskError(
                f"[model] backbone: the {what} of {source!r} can't be had ({one_line(error)}). Name a folder that "
                "holds a saved model, or download it once where there is a network."
            ) from error

    configuration = fetch(transformers.AutoConfig, "configuration", name)
    tokenizer = fetch(transformers.AutoTokenizer, "tokenizer", name)
    tokenizer.padding_side = "right"  # where `TextEncoder` cuts
    if tokenizer.pad_token is None:  # decoders like GPT-2 have none
        tokenizer.pad_token = tokenizer.eos_token
    if pooling == "cls" and tokenizer("a")["input_ids"][:1] != [tokenizer.cls_token_id]:
        raise TaskError(
            f"[model] options: pooling = 'cls', but {name!r} begins no text with a class token; allowed: mean."
        )

    def parts(made: Any) -> Parts:
        # What a half-precision file makes is trained in full precision, like any other.
        made = (made.get_encoder() if configuration.is_encoder_decoder else made).float()
        pooler = getattr(made, "pooler", None)
        if pooler is None and pooling == "pooler":
            raise TaskError(f"[model] options: pooling = 'pooler', but {name!r} has no pooler; allowed: mean, cls.")
        if pooler is not None:
            made.pooler = None
        activation = getattr(made, "pooler_activation", None)
        return Parts(
            backbone=TextEncoder(made, pooling="mean" if pooling == "mean" else "cls"),
            neck=Pooler(pooler, activation) if pooler is not None and pooling == "pooler" else None,
        )

    def pretrained(weights: str) -> dict[str, Tensor]:
        whole = parts(fetch(transformers.AutoModel, "weights", name if weights == "DEFAULT" else weights))
        state = whole.backbone.state_dict()
        return state | ({f"neck.{k}": v for k, v in whole.neck.state_dict().items()} if whole.neck else {})

    def renamed(key: str) -> str:
        # A file has the library's names: no `TextEncoder` around them.
        if key.startswith(("model.", "neck.")):
            return key
        return f"neck.{key}" if key.startswith("pooler.") and pooling == "pooler" else f"model.{key}"

    known = (tokenizer.model_max_length, getattr(configuration, "max_position_embeddings", None))
    longest = min([max_length, *(limit for limit in known if limit and limit > 0)])

    def encode(texts: Texts) -> dict[str, Tensor]:
        columns = [list(column) for column in zip(*texts.rows, strict=True)]
        encoded = tokenizer(*columns, truncation=True, max_length=longest, padding=True, return_tensors="pt")
        return {key: value for key, value in encoded.items() if isinstance(value, Tensor)}

    return Network(
        build=lambda: parts(transformers.AutoModel.from_config(configuration)),
        pretrained=pretrained,
        encode=encode,
        classifier_prefixes=("model.pooler.",),
        renamed=renamed,
    )


class TextEncoder(nn.Module):
    """A Hugging Face encoder and its pooling: {"input_ids": (N, L), ...} -> (N, F)."""

    def __init__(self, model: nn.Module, *, pooling: Literal["mean", "cls"]) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        longest = int(inputs["attention_mask"].sum(1).max())  # a batch is padded to its own longest text, not the set's
        inputs = {key: value[:, :longest] for key, value in inputs.items()}
        states: Tensor = self.model(**inputs).last_hidden_state
        if self.pooling == "cls":
            return states[:, 0]
        mask = inputs["attention_mask"].unsqueeze(-1).to(states.dtype)
        return (states * mask).sum(1) / mask.sum(1)


class Pooler(nn.Module):
    """A BERT's own pooler: (N, F) -> (N, F).

    It is a module that takes the states of all tokens and uses the first. ALBERT's is a linear layer that takes the
    first alone, with its activation beside it.
    """

    def __init__(self, pooler: nn.Module, activation: nn.Module | None) -> None:
        super().__init__()
        self.pooler = pooler
        self.activation = activation

    def forward(self, first: Tensor) -> Tensor:
        if self.activation is not None:
            return self.activation(self.pooler(first))  # type: ignore[no-any-return]
        return self.pooler(first.unsqueeze(1))  # type: ignore[no-any-return]

"""Networks of torchvision, timm and Hugging Face transformers, with their own weights and preprocessing."""

import logging
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Literal

import torch
from torch import Tensor, nn

from search.errors import TaskError
from search.spec import Model
from search.tasks.models import Network, Parts, image_format
from search.tasks.texts import Texts

# What builds beside its classifier an auxiliary one, which only the original training from scratch used.
_AUXILIARY = ("AuxLogits", "aux1", "aux2")


def torchvision_names() -> list[str]:
    """The classifiers of torchvision."""
    from torchvision import models

    return list(models.list_models(module=models))


def torchvision_network(name: str, model: Model) -> Network:
    """A torchvision classifier without its last layer, which is the head's place."""
    from torchvision import models

    if name not in torchvision_names():
        raise TaskError(f"[model] backbone: torchvision has no classifier {name!r}; `resnet18` is one.")
    enum = models.get_model_weights(name)
    options = dict(model.options)
    if name in ("inception_v3", "googlenet"):
        # `transform_input` is part of what the weights expect; the default initialisation warns that it will change.
        options = {"transform_input": True, "init_weights": True} | options

    def complete() -> nn.Module:
        network: nn.Module = models.get_model(name, weights=None, **options)
        return network

    def pretrained(weights: str) -> dict[str, Tensor]:
        entry = _entry(enum, weights)
        try:
            state: dict[str, Tensor] = entry.get_state_dict(progress=False, check_hash=True)
        except Exception as error:
            file = str(entry.url).rsplit("/", 1)[-1]
            raise TaskError(
                f"[model] weights = {weights!r}: {name}'s can't be downloaded ({_reason(error)}). Put {file} into "
                f"{torch.hub.get_dir()}/checkpoints, or name a local file: weights = {file!r}."
            ) from error
        return state

    with torch.device("meta"):
        last = _last_layer(_without_auxiliary(complete()))
    preset = (_entry(enum, "DEFAULT") if model.weights in ("source", "none") else _preset(enum, model)).transforms()
    return Network(
        build=lambda: Parts(backbone=_headless(complete())),
        pretrained=pretrained,
        images=image_format(
            model,
            size=preset.crop_size[0],
            resize=preset.resize_size[0],
            mean=preset.mean,
            std=preset.std,
            interpolation=preset.interpolation.value,
        ),
        replaced=(f"{last}.", *(f"{auxiliary}." for auxiliary in _AUXILIARY)),
        renamed=_modern_densenet,
    )


def timm_network(name: str, model: Model) -> Network:
    """A timm model without its classifier, its features pooled (needs the extra `timm`)."""
    timm = _extra("timm", f"[model] backbone = 'timm/{name}'")
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.partition('.')[0].partition('_')[0]}*")[:3])
        raise TaskError(f"[model] backbone: timm has no model {name!r}{f'; it has {near}, ...' if near else ''}.")
    options = dict(model.options)
    configuration = timm.get_pretrained_cfg(name)
    if model.image_size is not None and configuration is not None and configuration.fixed_input_size:
        options.setdefault("img_size", model.image_size)

    def build() -> Parts:
        return Parts(backbone=timm.create_model(name, pretrained=False, num_classes=0, **options))

    def pretrained(weights: str) -> dict[str, Tensor]:
        tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name.partition('.')[0]}.*")]
        if weights not in ("DEFAULT", *tags):
            raise TaskError(f"[model] weights = {weights!r}: timm's {name} has DEFAULT, {', '.join(tags) or 'none'}.")
        full = name if weights == "DEFAULT" else f"{name.partition('.')[0]}.{weights}"
        try:
            made: nn.Module = timm.create_model(full, pretrained=True, num_classes=0, **options)
        except Exception as error:
            raise TaskError(
                f"[model] weights = {weights!r}: timm's {full} can't be had ({_reason(error)}). Download it once where "
                "there is a network (timm keeps it in the Hugging Face cache), or name a local file."
            ) from error
        return made.state_dict()

    with torch.device("meta"):
        bare = build().backbone
    seen = timm.data.resolve_model_data_config(bare)
    size = int(seen["input_size"][-1])
    classifier = getattr(configuration, "classifier", None) or ()
    return Network(
        build=build,
        pretrained=pretrained,
        images=image_format(
            model,
            size=size,
            resize=round(size / seen["crop_pct"]),
            mean=seen["mean"],
            std=seen["std"],
            interpolation=seen["interpolation"],
        ),
        replaced=tuple(f"{part}." for part in ((classifier,) if isinstance(classifier, str) else classifier)),
    )


def transformers_network(name: str, model: Model) -> Network:
    """A Hugging Face encoder of texts: any `AutoModel`, by hub name or folder (needs the extra `transformers`).

    Options: `pooling` ("mean" over the tokens, "cls" the first token's state, "pooler" that state through the
    model's own pretrained pooler, which then is the head's first part), `max_length` (tokens).
    """
    options = {"pooling": "mean", "max_length": 128} | model.options
    pooling, max_length = options.pop("pooling"), options.pop("max_length")
    if pooling not in ("mean", "cls", "pooler") or not isinstance(max_length, int) or max_length < 2 or options:
        raise TaskError(
            f"[model] options = {model.options}; allowed for a transformers model: pooling "
            '("mean", "cls", "pooler") and max_length (tokens, at least 2).'
        )
    transformers = _extra("transformers", f"[model] backbone = 'transformers/{name}'")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()

    def fetch(make: Any, what: str, source: str) -> Any:
        try:
            return make.from_pretrained(source)
        except Exception as error:
            raise TaskError(
                f"[model] backbone: the {what} of {source!r} can't be had ({_reason(error)}). Name a folder that "
                "holds a saved model, or download it once where there is a network."
            ) from error

    configuration = fetch(transformers.AutoConfig, "configuration", name)
    tokenizer = fetch(transformers.AutoTokenizer, "tokenizer", name)
    if tokenizer.pad_token is None:  # decoders like GPT-2 have none
        tokenizer.pad_token = tokenizer.eos_token

    def parts(made: nn.Module) -> Parts:
        neck: nn.Module | None = getattr(made, "pooler", None)
        if pooling == "pooler" and neck is None:
            raise TaskError(f"[model] options: pooling = 'pooler', but {name!r} has no pooler; allowed: mean, cls.")
        if neck is not None:
            setattr(made, "pooler", None)  # noqa: B010 (a module's attributes are typed as modules)
        keeps = pooling == "pooler" and neck is not None
        return Parts(
            backbone=TextEncoder(made, pooling="mean" if pooling == "mean" else "cls"),
            neck=Pooler(neck) if keeps and neck is not None else None,
        )

    def pretrained(weights: str) -> dict[str, Tensor]:
        whole = parts(fetch(transformers.AutoModel, "weights", name if weights == "DEFAULT" else weights))
        state = whole.backbone.state_dict()
        return state | ({f"neck.{k}": v for k, v in whole.neck.state_dict().items()} if whole.neck else {})

    longest = min(max_length, getattr(configuration, "max_position_embeddings", None) or max_length)

    def encode(texts: Texts) -> dict[str, Tensor]:
        columns = [list(column) for column in zip(*texts.rows, strict=True)]
        encoded = tokenizer(*columns, truncation=True, max_length=longest, padding=True, return_tensors="pt")
        return {key: value for key, value in encoded.items() if isinstance(value, Tensor)}

    return Network(
        build=lambda: parts(transformers.AutoModel.from_config(configuration)),
        pretrained=pretrained,
        encode=encode,
        replaced=("model.pooler.", "pooler."),
    )


class TextEncoder(nn.Module):
    """A Hugging Face encoder and its pooling: {"input_ids": (N, L), "attention_mask": (N, L), ...} -> (N, F)."""

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
    """A BERT's own pooler, which wants the states of all tokens and looks at the first: (N, F) -> (N, F)."""

    def __init__(self, pooler: nn.Module) -> None:
        super().__init__()
        self.pooler = pooler

    def forward(self, first: Tensor) -> Tensor:
        return self.pooler(first.unsqueeze(1))  # type: ignore[no-any-return]


LIBRARIES: Mapping[str, Callable[[str, Model], Network]] = {
    "torchvision": torchvision_network,
    "timm": timm_network,
    "transformers": transformers_network,
}


def _extra(package: str, where: str) -> Any:
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # or it tells of each of its ten tries
    try:
        return import_module(package)
    except ImportError:
        raise TaskError(f"{where} needs {package}: pip install 'frostline[{package}]'.") from None


def _entry(enum: Any, weights: str) -> Any:
    if weights not in enum.__members__:
        raise TaskError(
            f"[model] weights = {weights!r} is neither a file nor known to torchvision; allowed: "
            f'{", ".join(enum.__members__)}, a file, {{ checkpoint = ..., module = ... }}, "source", "none".'
        )
    return enum[weights]


def _preset(enum: Any, model: Model) -> Any:
    known = isinstance(model.weights, str) and model.weights in enum.__members__
    return enum[model.weights] if known else enum["DEFAULT"]


def _without_auxiliary(network: nn.Module) -> nn.Module:
    for name in _AUXILIARY:
        if hasattr(network, name):
            setattr(network, name, None)
            network.aux_logits = False  # type: ignore[assignment]
    return network


def _last_layer(network: nn.Module) -> str:
    # In all of torchvision's classifiers it is registered last; in SqueezeNet it is a convolution.
    modules: list[tuple[str, nn.Module]] = list(network.named_modules())
    layers = [name for name, module in modules if isinstance(module, nn.Linear | nn.Conv2d)]
    return layers[-1]


def _headless(network: nn.Module) -> nn.Module:
    network = _without_auxiliary(network)
    network.set_submodule(_last_layer(network), nn.Identity())
    return network


def _modern_densenet(key: str) -> str:
    # Old DenseNet files have "norm.1" where modules may have no dots now.
    return re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)", r"\1\2", key)


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]

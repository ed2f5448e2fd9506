"""Networks of timm, with their weights and preprocessing (extra `timm`)."""

import torch
from torch import Tensor, nn

from search.errors import TaskError
from search.models.network import Network, Parts, built, extra, image_format
from search.spec.tables import Model
from search.user_code import one_line


def timm_network(name: str, model: Model) -> Network:
    """Return a timm model without its classifier, its features pooled. Raises `TaskError`."""
    timm = extra("timm", f"[model] backbone = 'timm/{name}'")
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.partition('.')[0].partition('_')[0]}*")[:3])
        raise TaskError(f"[model] backbone: timm has no model {name!r}{f'; it has {near}, ...' if near else ''}.")
    options = dict(model.options)
    if "checkpoint_path" in options:  # every network would start from it, the from-scratch ones too
        raise TaskError(
            f"[model] options: checkpoint_path belongs into [model] weights = {options['checkpoint_path']!r}."
        )
    configuration = built(lambda: timm.get_pretrained_cfg(name), model)  # raises for a tag there is none of
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
                f"[model] weights = {weights!r}: timm's {full} can't be had ({one_line(error)}). Download it once "
                "where there is a network (timm keeps it in the Hugging Face cache), or name a local file."
            ) from error
        return made.state_dict()

    with torch.device("meta"):
        bare = built(build, model).backbone
    seen = timm.data.resolve_model_data_config(bare)
    size = int(seen["input_size"][-1])
    preprocessing = {key: seen[key] for key in ("mean", "std", "interpolation")}
    classifier = getattr(configuration, "classifier", None) or ()
    classifiers = (classifier,) if isinstance(classifier, str) else classifier
    return Network(
        build=build,
        pretrained=pretrained,
        images=image_format(model, size=size, resize=round(size / seen["crop_pct"]), **preprocessing),
        classifier_prefixes=tuple(f"{part}." for part in classifiers),
    )

"""Layer groups of torchvision's models, and of timm's and Hugging Face's where those are installed."""

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from strategies import layer_groups


def torchvision_backbone(name):
    """Return a classifier without its last layer."""
    meta = not name.startswith("regnet")  # its widths are computed with tensors
    with torch.device("meta" if meta else "cpu"):
        model = get_model(name, **({"init_weights": False} if name in ("inception_v3", "googlenet") else {}))
    last = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)] or ["classifier.1"]
    model.set_submodule(last[-1], nn.Identity())
    return model


def run_order(backbone, inputs):
    """For each group, when the first of its layers ran."""
    ran = []
    groups = layer_groups(backbone)
    for module in list(backbone.modules())[1:]:
        own = list(module.parameters(recurse=False))
        for index in {index for index, group in enumerate(groups) for p in group.parameters for q in own if p is q}:
            module.register_forward_pre_hook(lambda *_, index=index: ran.append(index))
    with torch.no_grad():
        backbone.eval()(inputs)
    return [ran.index(index) for index in range(len(groups))]


RESNET = ["conv1", "layer1", "layer2", "layer3", "layer4"]
FAMILIES = {
    "resnet18": RESNET,
    "vgg16": ["features.0", "features.5", "features.10", "features.17", "features.24", "classifier.0", "classifier.3"],
    "alexnet": ["features.0", "features.3", "features.6", "classifier.1", "classifier.4"],
    "inception_v3": [
        "Conv2d_1a_3x3",
        "Conv2d_3b_1x1",
        *(f"Mixed_{n}" for n in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")),
    ],
    "googlenet": ["conv1", "conv2", *(f"inception{n}" for n in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"))],
    "densenet121": ["conv0", "denseblock1", "denseblock2", "denseblock3", "denseblock4"],
    "mobilenet_v2": [f"features.{n}" for n in range(19)],
    "mobilenet_v3_small": [*(f"features.{n}" for n in range(13)), "classifier"],
    "efficientnet_b0": [f"features.{n}" for n in range(9)],
    "convnext_tiny": [f"features.{n}" for n in (0, 1, 3, 5, 7)],
    "swin_t": [f"features.{n}" for n in (0, 1, 3, 5, 7)],
    "vit_b_16": ["conv_proj", *(f"encoder_layer_{n}" for n in range(12))],
    "maxvit_t": ["stem", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "classifier"],
    "regnet_y_400mf": ["stem", "block1", "block2", "block3", "block4"],
    "shufflenet_v2_x0_5": ["conv1", "stage2", "stage3", "stage4", "conv5"],
    "squeezenet1_1": [f"features.{n}" for n in (0, 3, 4, 6, 7, 9, 10, 11, 12)],
    "mnasnet0_5": [f"layers.{n}" for n in (0, 8, 9, 10, 11, 12, 13, 14)],
}


@pytest.mark.parametrize("name", FAMILIES)
def test_torchvision_groups_are_stages_or_blocks(name):
    backbone = torchvision_backbone(name)
    groups = layer_groups(backbone)
    assert [group.name for group in groups] == FAMILIES[name]
    owned = [n for group in groups for n in group.parameter_names]
    assert sorted(owned) == sorted(n for n, _ in backbone.named_parameters())
    for group in groups:
        assert all(backbone.get_parameter(n) is p for n, p in zip(group.parameter_names, group.parameters, strict=True))


@pytest.mark.parametrize(
    ("name", "index", "parameters"),
    [
        ("densenet121", 4, ("features.denseblock4.denselayer1.conv1.weight", "features.norm5.weight")),
        ("convnext_tiny", 4, ("features.7.0.block.0.weight", "classifier.0.weight")),
        ("swin_t", 2, ("features.2.reduction.weight", "features.3.0.attn.qkv.weight")),
        ("vit_b_16", 0, ("class_token", "conv_proj.weight", "encoder.pos_embedding")),
        ("vit_b_16", 12, ("encoder.layers.encoder_layer_11.mlp.0.weight", "encoder.ln.weight")),
        ("inception_v3", 12, ("Mixed_7c.branch1x1.conv.weight", "AuxLogits.fc.weight")),
        ("mnasnet0_5", 0, ("layers.0.weight", "layers.3.weight", "layers.6.weight", "layers.7.bias")),
    ],
)
def test_layers_between_stages_join_the_expected_group(name, index, parameters):
    assert set(layer_groups(torchvision_backbone(name))[index].parameter_names) >= set(parameters)


def test_a_whole_classifiers_last_layer_is_one_more_group():
    with torch.device("meta"):
        whole = get_model("vgg16")
    assert [group.name for group in layer_groups(whole)] == [*FAMILIES["vgg16"], "classifier.6"]


@pytest.mark.parametrize("name", FAMILIES)
def test_groups_are_in_order_of_execution(name):
    backbone = torchvision_backbone(name)
    order = run_order(backbone, torch.zeros(1, 3, 224, 224, device=next(backbone.parameters()).device))
    assert order == sorted(order)


TIMM = {
    "resnet18": ["conv1", "layer1", "layer2", "layer3", "layer4"],
    "vit_tiny_patch16_224": ["patch_embed", *(f"blocks.{n}" for n in range(12))],
    "mixer_s16_224": ["stem", *(f"blocks.{n}" for n in range(8))],
    "convnext_atto": ["stem", *(f"stages.{n}" for n in range(4))],
    "swin_tiny_patch4_window7_224": ["patch_embed", *(f"layers.{n}" for n in range(4))],
    "efficientnet_b0": ["conv_stem", *(f"blocks.{n}" for n in range(7))],
    "mobilenetv3_small_050": ["conv_stem", *(f"blocks.{n}" for n in range(6))],
    "regnety_002": ["stem", "s1", "s2", "s3", "s4"],
    "nfnet_l0": ["stem", *(f"stages.{n}" for n in range(4))],
    "levit_128s": ["stem", *(f"stages.{n}" for n in range(3))],
    # Without a grouping of their own: the general rules.
    "poolformer_s12": ["stem", *(f"stages.{n}" for n in range(4))],
    "rdnet_tiny": ["stem", *(f"dense_stages.{n}" for n in range(7))],
}
LAYERS = 5
SIZES = {"hidden_size": 8, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 8}
TEXT = SIZES | {"vocab_size": 20}
IMAGE = SIZES | {"image_size": 8, "patch_size": 4}
DEBERTA = {"relative_attention": True, "norm_rel_ebd": "layer_norm", "conv_kernel_size": 3, "position_buckets": 4}
GPT2 = {"n_embd": 8, "n_layer": LAYERS, "n_head": 2, "vocab_size": 20, "bos_token_id": 0, "eos_token_id": 0}
T5 = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": LAYERS, "num_heads": 2, "vocab_size": 20}
SHORT = {"n_heads": 2, "vocab_size": 20}
HUGGING_FACE = {
    "Bert": (TEXT, "embeddings", "layer"),
    "DistilBert": (SHORT | {"dim": 8, "n_layers": LAYERS, "hidden_dim": 8}, "embeddings", "layer"),
    "Electra": (TEXT | {"embedding_size": 4}, "embeddings", "layer"),
    "DebertaV2": (TEXT | DEBERTA, "embeddings", "layer"),
    # Its embeddings have a projection, and are larger than its layers here.
    "FNet": (TEXT, "embeddings", "layer"),
    # Half of each layer stands in another list.
    "XLM": (SHORT | {"emb_dim": 8, "n_layers": LAYERS}, "position_embeddings", "attentions"),
    # Its head for contacts never runs.
    "Esm": (TEXT | {"pad_token_id": 1, "mask_token_id": 2}, "embeddings", "layer"),
    "GPT2": (GPT2, "wte", "h"),
    "T5Encoder": (T5, "shared", "block"),
    "ViT": (IMAGE, "embeddings", "layers"),
}


def meta(build, **kwargs):
    with torch.device("meta"):
        return build(**kwargs)


def hugging_face(family, **config):
    transformers = pytest.importorskip("transformers")
    settings = getattr(transformers, f"{family.removesuffix('Encoder')}Config")(**config)
    return getattr(transformers, f"{family}Model")(settings)


@pytest.mark.parametrize("name", TIMM)
def test_timm_groups_are_the_models_own(name):
    timm = pytest.importorskip("timm")
    backbone = (
        timm.create_model(name, num_classes=0)
        if name == "rdnet_tiny"
        else meta(timm.create_model, model_name=name, num_classes=0)
    )
    groups = layer_groups(backbone)
    assert [group.name for group in groups] == TIMM[name]
    assert sorted(n for g in groups for n in g.parameter_names) == sorted(n for n, _ in backbone.named_parameters())
    with_neck = layer_groups(nn.Sequential(backbone, nn.Linear(4, 4)))
    assert [group.name for group in with_neck] == [*TIMM[name], "1"]


def test_parameters_unmatched_by_timm_join_the_last_group():
    timm = pytest.importorskip("timm")
    backbone = meta(timm.create_model, model_name="vit_tiny_patch16_224", num_classes=0)
    first, *_, last = layer_groups(backbone)
    assert {"cls_token", "pos_embed", "patch_embed.proj.weight"} <= set(first.parameter_names)
    assert {"blocks.11.norm1.weight", "norm.weight"} <= set(last.parameter_names)


@pytest.mark.parametrize("family", HUGGING_FACE)
def test_an_encoders_groups_are_its_embeddings_and_each_layer(family):
    config, first, rest = HUGGING_FACE[family]
    backbone = hugging_face(family, **config)
    groups = layer_groups(backbone)
    expected = [first, *(f"{rest}.{n}" for n in range(LAYERS))]
    assert [group.name for group in groups] == expected
    assert [group.name for group in layer_groups(nn.Sequential(backbone))] == expected
    assert sorted(n for g in groups for n in g.parameter_names) == sorted(n for n, _ in backbone.named_parameters())


def test_a_pooler_joins_the_last_layer_and_two_layers_stay_two():
    groups = layer_groups(hugging_face("Bert", **TEXT | {"num_hidden_layers": 2}))
    assert [group.name for group in groups] == ["embeddings", "layer.0", "layer.1"]
    assert "pooler.dense.weight" in groups[-1].parameter_names


def test_a_layer_in_two_lists_is_one_group():
    sizes = {"emb_dim": 8, "n_layers": LAYERS, "n_heads": 2, "vocab_size": 20}
    for index, group in enumerate(layer_groups(hugging_face("XLM", **sizes))[1:]):
        lists = {".".join(name.split(".")[:2]) for name in group.parameter_names}
        assert lists == {f"{part}.{index}" for part in ("attentions", "layer_norm1", "ffns", "layer_norm2")}


def test_a_relative_positions_table_joins_the_embeddings():
    first, second, *_ = layer_groups(hugging_face("DebertaV2", **TEXT | DEBERTA))
    assert {"encoder.rel_embeddings.weight", "encoder.LayerNorm.weight"} <= set(first.parameter_names)
    assert "encoder.conv.conv.weight" in second.parameter_names


def test_layers_that_share_their_weights_are_one_group():
    groups = layer_groups(hugging_face("Albert", **TEXT | {"embedding_size": 4}))
    assert [group.name for group in groups] == ["embeddings", "albert_layer_groups.0"]
    assert "encoder.embedding_hidden_mapping_in.weight" in groups[0].parameter_names


def test_a_convnets_stages_are_its_groups():
    backbone = hugging_face("ConvNext", hidden_sizes=[4, 4, 8, 8], depths=[1, 1, 2, 1])
    assert [g.name for g in layer_groups(backbone)] == ["embeddings", "stages.0", "stages.1", "stages.2", "stages.3"]

"""Hugging Face encoders of any family as a backbone of texts."""

import json

import pytest
import torch

from search.data.texts import Texts
from search.errors import TaskError
from search.models.checks import feature_width
from search.models.huggingface import TextEncoder
from search.models.registry import find_network
from search.models.weights import load_weights
from search.spec.tables import Checkpoint, Model

transformers = pytest.importorskip("transformers")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "film", "book", "but"]
FILMS = Texts((("a good film",), ("a bad book but a good film",)))
SMALL = {"vocab_size": 16, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
T5 = {"vocab_size": 16, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 2, "num_heads": 2}
XLNET = {"vocab_size": 16, "d_model": 8, "n_layer": 2, "n_head": 2, "d_inner": 8}


def model(backbone, **keys):
    return Model(backbone=backbone, **{"weights": "none", **keys})


def saved(folder, made):
    """Save a model in a folder, with a tokenizer of eleven words."""
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """Save a BERT of two small layers."""
    torch.manual_seed(0)
    return saved(tmp_path_factory.mktemp("bert"), transformers.BertModel(transformers.BertConfig(**SMALL)))


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_a_bert_of_the_users_own(bert, pooling):
    spec = model(f"transformers/{bert}", weights="DEFAULT", options={"pooling": pooling})
    network = find_network(spec)
    parts = network.build()
    assert isinstance(parts.backbone, TextEncoder)
    assert not any("pooler" in name for name, _ in parts.backbone.named_parameters()), "the pooler is the head's"
    assert (parts.neck is not None) == (pooling == "pooler")
    state = load_weights(spec, network, parts.backbone)
    assert sum(key.startswith("neck.") for key in state) == (2 if pooling == "pooler" else 0)
    inputs = network.encode(FILMS)
    assert feature_width(parts.backbone, inputs) == 8


def test_padding_changes_no_features(bert):
    spec = model(f"transformers/{bert}")
    network = find_network(spec)
    backbone = network.build().backbone.eval()
    together = backbone(network.encode(FILMS))
    alone = backbone(network.encode(Texts((("a good film",),))))
    assert torch.allclose(together[0], alone[0], atol=1e-6)


def test_sentence_pairs_get_segment_ids(bert):
    encode = find_network(model(f"transformers/{bert}")).encode
    encoded = encode(Texts((("a good film", "a bad book"),)))
    assert encoded["token_type_ids"].sum() == 4
    assert encoded["input_ids"].shape == (1, 9)


def test_options_of_a_text_model_are_checked(bert):
    with pytest.raises(TaskError, match=r"\[model\] options = {'pooling': 'max'}; allowed .* pooling"):
        find_network(model(f"transformers/{bert}", options={"pooling": "max"}))


def test_a_hub_model_without_a_network_says_what_to_do(tmp_path):
    with pytest.raises(TaskError, match=r"the configuration of .* can't be had .*Name a folder"):
        find_network(model(f"transformers/{tmp_path}/nothing"))


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("Albert", {**SMALL, "embedding_size": 4}),
        ("DebertaV2", {**SMALL, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
        ("T5", T5),
        ("XLNet", XLNET),
    ],
)
def test_other_families(tmp_path, family, options):
    configuration = getattr(transformers, f"{family}Config")(**options)
    spec = model(
        f"transformers/{saved(tmp_path, transformers.AutoModel.from_config(configuration))}", weights="DEFAULT"
    )
    network = find_network(spec)
    backbone = network.build().backbone
    backbone.load_state_dict(load_weights(spec, network, backbone))
    assert not any("decoder" in name for name, _ in backbone.named_parameters()), "the encoder alone"
    backbone.eval()
    together, alone = backbone(network.encode(FILMS)), backbone(network.encode(Texts(FILMS.rows[:1])))
    assert together.shape == (2, 8)
    assert torch.allclose(together[0], alone[0], atol=1e-5)


def test_alberts_pooler_is_a_layer_and_an_activation(tmp_path):
    torch.manual_seed(0)
    made = transformers.AlbertModel(transformers.AlbertConfig(**SMALL, embedding_size=4)).eval()
    spec = model(f"transformers/{saved(tmp_path, made)}", weights="DEFAULT", options={"pooling": "pooler"})
    network = find_network(spec)
    parts = network.build()
    state = load_weights(spec, network, parts.backbone)
    parts.backbone.load_state_dict({key: value for key, value in state.items() if not key.startswith("neck.")})
    parts.neck.load_state_dict({key.removeprefix("neck."): v for key, v in state.items() if key.startswith("neck.")})
    inputs = network.encode(FILMS)
    pooled = parts.neck(parts.backbone.eval()(inputs))
    assert torch.allclose(pooled, made(**inputs).pooler_output, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files_are_trained_in_full_precision(tmp_path, dtype):
    made = transformers.BertModel(transformers.BertConfig(**SMALL)).to(dtype)
    spec = model(f"transformers/{saved(tmp_path, made)}", weights="DEFAULT", options={"pooling": "pooler"})
    parts = find_network(spec).build()
    assert {tensor.dtype for part in (parts.backbone, parts.neck) for tensor in part.parameters()} == {torch.float32}


def test_tokenizers_that_pad_on_the_left_or_have_no_class_token(bert, tmp_path):
    for file in bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "padding_side": "left", "model_max_length": 6}))
    encoded = find_network(model(f"transformers/{tmp_path}")).encode(FILMS)
    assert encoded["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 0], [1] * 6], "padded on the right, cut at 6 tokens"
    file.write_text(json.dumps({**json.loads(file.read_text()), "tokenizer_class": "PreTrainedTokenizerFast"}))
    words = tmp_path / "tokenizer.json"
    words.write_text(json.dumps({**json.loads(words.read_text()), "post_processor": None}))
    with pytest.raises(TaskError, match=r"pooling = 'cls', but .* begins no text with a class token; allowed: mean"):
        find_network(model(f"transformers/{tmp_path}", options={"pooling": "cls"}))


@pytest.mark.parametrize("pooling", ["mean", "pooler"])
def test_weights_out_of_a_lightning_checkpoint(bert, tmp_path, pooling):
    made = transformers.BertForSequenceClassification(transformers.BertConfig(**SMALL))
    file = str(tmp_path / "tuned.ckpt")
    torch.save({"state_dict": {f"net.{key}": value for key, value in made.state_dict().items()}}, file)
    options = {"pooling": pooling}
    spec = model(f"transformers/{bert}", weights=Checkpoint(checkpoint=file, module="net.bert"), options=options)
    network = find_network(spec)
    state = load_weights(spec, network, network.build().backbone)
    layer = "encoder.layer.1.output.dense.weight"
    assert torch.equal(state[f"model.{layer}"], made.bert.get_parameter(layer))
    assert ("neck.pooler.dense.weight" in state) == (pooling == "pooler")
    spec = model(f"transformers/{bert}", weights=Checkpoint(checkpoint=file, module="net"), options=options)
    with pytest.raises(TaskError, match=r"names begin with 'bert.'. Say .* module = \"net.bert\""):
        load_weights(spec, network, network.build().backbone)


def test_code_in_a_model_folder_is_not_run(bert, tmp_path):
    for file in bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "code.py").write_text("raise AssertionError('run')")
    file = tmp_path / "config.json"
    known = json.loads(file.read_text())
    file.write_text(json.dumps({**known, "model_type": "strange", "auto_map": {"AutoConfig": "code.Config"}}))
    with pytest.raises(TaskError, match=r"the configuration of .* can't be had"):
        find_network(model(f"transformers/{tmp_path}"))

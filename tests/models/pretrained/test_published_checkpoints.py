"""Folders as people publish them: ties under either name, wrappers, larger models, heads of all kinds."""

import numpy as np
import pytest

from models import (
    BERT,
    GPT,
    T5,
    ALBERTForPreTraining,
    BERTForPreTraining,
    DistilBERTForPreTraining,
    RoBERTaForPreTraining,
    XLNet,
)
from models.pretrained import write_folder
from tests.models.pretrained.test_smaller_models import IDS, outputs

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from safetensors.torch import save_file, save_model  # noqa: E402

pytestmark = pytest.mark.parity

SMALL = dict(vocab_size=41, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40,
             max_position_embeddings=20)  # fmt: skip
GPT_SMALL = dict(vocab_size=41, n_positions=12, n_embd=16, n_layer=2, n_head=4, bos_token_id=None, eos_token_id=None)
T5_SMALL = dict(vocab_size=41, d_model=16, d_kv=6, d_ff=24, num_layers=2, num_heads=4, decoder_start_token_id=0)
XLNET_SMALL = dict(vocab_size=41, d_model=24, n_layer=2, n_head=4, d_inner=40)
DISTIL_SMALL = dict(vocab_size=41, dim=24, n_layers=2, n_heads=4, hidden_dim=40, max_position_embeddings=20)
# name: (our class, their class of the whole model, its config)
KINDS = {
    "gpt2": (GPT, "GPT2LMHeadModel", ("GPT2Config", GPT_SMALL)),
    "gpt2 untied": (GPT, "GPT2LMHeadModel", ("GPT2Config", GPT_SMALL | dict(tie_word_embeddings=False))),
    "openai-gpt": (GPT, "OpenAIGPTLMHeadModel", ("OpenAIGPTConfig", GPT_SMALL)),
    "bert": (BERTForPreTraining, "BertForPreTraining", ("BertConfig", SMALL)),
    "roberta": (RoBERTaForPreTraining, "RobertaForMaskedLM", ("RobertaConfig", SMALL)),
    "distilbert": (DistilBERTForPreTraining, "DistilBertForMaskedLM", ("DistilBertConfig", DISTIL_SMALL)),
    "albert": (ALBERTForPreTraining, "AlbertForPreTraining", ("AlbertConfig", SMALL | dict(embedding_size=8))),
    "xlnet": (XLNet, "XLNetLMHeadModel", ("XLNetConfig", XLNET_SMALL)),
    "t5": (T5, "T5ForConditionalGeneration", ("T5Config", T5_SMALL)),
    "t5 v1.1": (T5, "T5ForConditionalGeneration",
                ("T5Config", T5_SMALL | dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False))),
}  # fmt: skip


def peer(kind: str, name: str | None = None, **changes):
    """A model of `transformers` with weights large enough for every part to matter."""
    _, whole, (config, fields) = KINDS[kind]
    torch.manual_seed(0)
    model = getattr(transformers, name or whole)(getattr(transformers, config)(**fields | changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model.eval()


def save(arrays: dict, config, folder) -> None:
    config.save_pretrained(folder)
    save_file({name: array.clone().contiguous() for name, array in arrays.items()}, folder / "model.safetensors")


def their_outputs(model, **more) -> list[np.ndarray]:
    """Logits of words, and of sentences where the model has such a head."""
    ids = torch.tensor(IDS)
    more |= {"decoder_input_ids": ids[:, :5]} if "T5" in type(model).__name__ else {}
    with torch.no_grad():
        found = model(input_ids=ids, **more)
    heads = ("logits", "prediction_logits", "seq_relationship_logits", "sop_logits")
    return [getattr(found, name).numpy() for name in heads if getattr(found, name, None) is not None]


def our_outputs(model) -> list[np.ndarray]:
    """The same of ours."""
    found = outputs(model)
    return found if isinstance(model, (GPT, T5, XLNet)) else [part for part in found if part.shape[-1] in (41, 2)]


def assert_same(got: list[np.ndarray], want: list[np.ndarray]) -> None:
    assert [a.shape for a in got] == [b.shape for b in want]
    for a, b in zip(got, want):
        assert abs(a - b).max() < 1e-5 * abs(b).max()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_every_shared_array_once_is_read_whatever_its_name(kind, tmp_path):
    theirs = peer(kind)
    theirs.config.save_pretrained(tmp_path)
    save_model(theirs, tmp_path / "model.safetensors")
    assert_same(our_outputs(KINDS[kind][0].from_pretrained(tmp_path)), their_outputs(theirs))


@pytest.mark.parametrize("kind", KINDS)
def test_every_name_of_a_shared_array_will_do(kind, tmp_path):
    theirs = peer(kind)
    arrays = theirs.state_dict()
    shared = {}
    for name, array in arrays.items():
        shared.setdefault(array.data_ptr(), []).append(name)
    groups = [names for names in shared.values() if len(names) > 1]
    assert len(groups) == {"gpt2 untied": 0, "bert": 2, "roberta": 2, "albert": 2}.get(kind, 1)
    for group in groups:
        for kept in group:
            save({n: a for n, a in arrays.items() if n == kept or n not in group}, theirs.config, tmp_path)
            if kept == "lm_head.weight" and kind.startswith("t5"):
                continue  # no file of T5 leaves out its embedding
            assert_same(our_outputs(KINDS[kind][0].from_pretrained(tmp_path)), their_outputs(theirs))


WRAPPED = {
    "compiled": lambda model: torch.compile(model).state_dict(),
    "in parallel": lambda model: torch.nn.DataParallel(model).state_dict(),
    "both": lambda model: torch.nn.DataParallel(torch.compile(model)).state_dict(),
    "inside a larger model": lambda model: Larger(model).state_dict(),
}


class Larger(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.net, self.fc = model, torch.nn.Linear(3, 4)


@pytest.mark.parametrize("wrapper", WRAPPED)
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_in_wrappers_or_inside_a_larger_one_is_found(kind, wrapper, tmp_path):
    theirs = peer(kind)
    save(WRAPPED[wrapper](theirs), theirs.config, tmp_path)
    if wrapper == "inside a larger model":
        with pytest.warns(UserWarning, match=r"no part of the model, and passed over: fc.bias, fc.weight"):
            ours = KINDS[kind][0].from_pretrained(tmp_path)
    else:
        ours = KINDS[kind][0].from_pretrained(tmp_path)
    assert_same(our_outputs(ours), their_outputs(theirs))


HEADS = [
    ("gpt2", "GPT2ForSequenceClassification", r"score.weight"),
    ("gpt2", "GPT2ForTokenClassification", r"classifier.bias, classifier.weight"),
    ("gpt2", "GPT2ForQuestionAnswering", r"qa_outputs.bias, qa_outputs.weight"),
    ("gpt2", "GPT2DoubleHeadsModel", r"multiple_choice_head.summary.bias, multiple_choice_head.summary.weight"),
    ("openai-gpt", "OpenAIGPTForSequenceClassification", r"score.weight"),
    ("bert", "BertForSequenceClassification", r"classifier.bias, classifier.weight"),
    ("roberta", "RobertaForSequenceClassification", r"classifier.dense.bias, .*, classifier.out_proj.weight"),
    ("distilbert", "DistilBertForSequenceClassification", r"classifier.bias, .*, pre_classifier.weight"),
    ("xlnet", "XLNetForSequenceClassification", r"logits_proj.bias, .*, sequence_summary.summary.weight"),
    ("xlnet", "XLNetForTokenClassification", r"classifier.bias, classifier.weight"),
    ("albert", "AlbertForQuestionAnswering", r"qa_outputs.bias, qa_outputs.weight"),
]


@pytest.mark.parametrize("kind, name, passed_over", HEADS)
def test_the_body_of_a_model_with_another_head_is_read_and_the_head_named(kind, name, passed_over, tmp_path):
    theirs = peer(kind, name)
    theirs.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=rf"but no part of the model, and passed over: {passed_over}$"):
        ours = KINDS[kind][0].from_pretrained(tmp_path)
    with torch.no_grad():
        hidden = theirs.base_model(input_ids=torch.tensor(IDS)).last_hidden_state.numpy()
    assert_same([hidden_of(ours)], [hidden])


def hidden_of(model) -> np.ndarray:
    if isinstance(model, XLNet):
        return model.features({"ids": IDS}).data
    return model.hidden(IDS).data if isinstance(model, GPT) else model.body(IDS).hidden.data


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "albert"])
def test_a_head_with_a_table_of_its_own_does_not_hinder_the_body(kind, tmp_path):
    theirs = peer(kind, tie_word_embeddings=False)
    theirs.save_pretrained(tmp_path)
    whole = KINDS[kind][0]
    with torch.no_grad():
        hidden = theirs.base_model(input_ids=torch.tensor(IDS)).last_hidden_state.numpy()
    assert_same([whole.body_class.from_pretrained(tmp_path)(IDS).hidden.data], [hidden])
    with pytest.warns(UserWarning, match=r"differs from its .*word_embeddings.weight, with which this model shares it"):
        ours = whole.from_pretrained(tmp_path)
    assert_same([ours.body(IDS).hidden.data], [hidden])
    assert ours.untrained == ("mlm",)


@pytest.mark.parametrize(
    "kind, field, word",
    [("bert", "hidden_act", "swish"), ("gpt2", "activation_function", "swish"), ("openai-gpt", "afn", "swish"),
     ("t5", "feed_forward_proj", "swish"), ("t5", "feed_forward_proj", "gated-swish"),
     ("t5", "feed_forward_proj", "gated-gelu_new"), ("t5", "feed_forward_proj", "gated-gelu_python"),
     ("albert", "hidden_act", "gelu_fast"), ("distilbert", "activation", "gelu_python")],
)  # fmt: skip
def test_an_activation_has_several_names(kind, field, word, tmp_path):
    theirs = peer(kind, **{field: word})
    theirs.save_pretrained(tmp_path)
    ours = KINDS[kind][0].from_pretrained(tmp_path)
    assert_same(our_outputs(ours), their_outputs(theirs))
    ours.save_pretrained(tmp_path / "again")
    again = type(theirs).from_pretrained(tmp_path / "again").eval()
    assert_same(their_outputs(again), their_outputs(theirs))


@pytest.mark.parametrize("kind, name", [("bert", "BertLMHeadModel"), ("roberta", "RobertaForCausalLM")])
def test_a_decoder_is_not_read_as_if_it_saw_both_ways(kind, name, tmp_path):
    peer(kind, name, is_decoder=True).save_pretrained(tmp_path)
    for whole in (KINDS[kind][0], KINDS[kind][0].body_class):
        with pytest.raises(ValueError, match=r"is_decoder is True; this model reads both ways"):
            whole.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "dtype, message",
    [("float8_e4m3fn", r"has F8_E4M3 numbers \(bert.encoder.layer.0.*weight\)"),
     ("float8_e5m2", "has F8_E5M2 numbers"), ("int8", "weight holds int8 numbers")],
)  # fmt: skip
def test_small_numbers_are_refused_by_name(dtype, message, tmp_path):
    theirs = peer("bert")
    dense = "bert.encoder.layer.0.output.dense.weight"
    arrays = {name: array for name, array in theirs.state_dict().items() if not name.startswith("cls.")}
    save(arrays | {dense: arrays[dense].to(getattr(torch, dtype))}, theirs.config, tmp_path)
    with pytest.raises(ValueError, match=message + r".*, .*take the model's files in 16 or 32 bits"):
        BERT.from_pretrained(tmp_path)


def test_a_quantized_models_config_is_refused(tmp_path):
    write_folder(tmp_path, {"model_type": "bert", "quantization_config": {"quant_method": "bitsandbytes"}}, {})
    with pytest.raises(ValueError, match=r"quantization_config is .*bitsandbytes.*; weights that another tool has"):
        BERT.from_pretrained(tmp_path)

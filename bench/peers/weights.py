"""The models that all systems share: BERTs with seeded random weights, saved once."""

MODELS = {
    "bert-base": dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072),
    "minilm-l6": dict(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536),
}


def write_model(folder, sizes):
    """Save a BERT with random weights, unless it is there already."""
    import torch
    from transformers import BertConfig, BertModel

    if not (folder / "model.safetensors").exists():
        torch.manual_seed(0)
        BertModel(BertConfig(**sizes), add_pooling_layer=False).save_pretrained(folder)


def torch_model(folder, attention):
    """The saved model in f32, as a module from ids and perhaps a mask to the last hidden state."""
    import torch
    from transformers import BertModel

    class Encoder(torch.nn.Module):
        """Only the tensor that is compared."""

        def __init__(self, bert):
            super().__init__()
            self.bert = bert

        def forward(self, input_ids, attention_mask=None):
            return self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    bert = BertModel.from_pretrained(
        folder, attn_implementation=attention, add_pooling_layer=False, dtype=torch.float32
    )
    return Encoder(bert).eval()


def example(masked):
    """Inputs to trace the model with."""
    import torch

    ids = torch.arange(64).reshape(2, 32)
    mask = torch.ones_like(ids)
    mask[1, 20:] = 0
    return {"input_ids": ids, "attention_mask": mask} if masked else {"input_ids": ids}

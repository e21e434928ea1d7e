"""Do the stored tensors fit the architecture? By transformers' own loader on the meta device: no weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firsttoken.inputs.weight_headers import StoredTensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAMED = 3  # tensors that an error names


def check_tensors(model: PreTrainedModel, stored: Mapping[str, StoredTensor], folder: Path) -> None:
    """Raise ValueError in one line where names or shapes are not exactly those that `model`, on meta, would load.

    `from_pretrained(device_map="meta")` needs accelerate and reads the weights. These are the steps that it takes, so
    that tied weights, a base model's prefix, stacked experts and ignored buffers are all treated as on loading.
    """
    import torch
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import convert_and_load_state_dict_in_model
    from transformers.modeling_utils import LoadStateDictConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    conversions: Any = get_model_conversion_mapping(model)
    info, _ = convert_and_load_state_dict_in_model(
        model,
        {name: torch.empty(tensor.shape, dtype=model.dtype, device="meta") for name, tensor in stored.items()},
        LoadStateDictConfig(device_map={"": "meta"}, dtype=model.dtype, weight_mapping=conversions),
    )
    model.tie_weights(missing_keys=info.missing_keys, recompute_mapping=False)
    model._adjust_missing_and_unexpected_keys(info)
    # transformers takes a tensor with and without the base model's prefix; of two that are the same one it drops one.
    doubled = {name for name in stored if f"{model.base_model_prefix}.{name}" in stored}
    problems = [
        *(f"{name} is missing" for name in sorted(info.missing_keys)),
        *(f"{name} is not known" for name in sorted(info.unexpected_keys)),
        *(f"{name} is there twice, with and without the prefix" for name in sorted(doubled)),
        *(
            f"{name} has shape {list(found)}, not {list(expected)}"
            for name, found, expected in sorted(info.mismatched_keys)
        ),
        *(f"{name} cannot be converted" for name in sorted(info.conversion_errors.keys() - info.missing_keys)),
    ]
    if problems:
        more = f" and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        raise ValueError(
            f"{folder}: the weights are not those of {type(model).__name__}: {', '.join(problems[:NAMED])}{more}; "
            "take a checkpoint that was saved for this architecture"
        )

"""One slate and one next-item list per user: all the model's work of evaluation, none of the scoring.

Decoders: `slate`, the policy's L items written greedily, each distinct; `beam`, the most likely next items, by beam
search over the catalogue or, where there are candidates, by scoring all of them. Both are held to what can be
recommended, and to unseen items where the data set says so. With candidates also `pool`, the first of them as the
retriever ranks them, and, where recommend.free says so, `free`: the slate written with the whole vocabulary open.
Splits: valid (context: the training part) and test (the validation item as well), or of each as many users as
evaluate.max_users says. Of a corpus with tasks (RecIF) also `test_<task>`: a beam of 32, the greedy slate, and
`sample`, several sampled slates merged by likelihood. Writes data/<dataset>/slates/<row>/seed-<n>.parquet.

    python -m stages.recommend --dataset ml-100k --space semantic_id --optimizer sage --seed 1
"""

import pyarrow as pa
import torch

from stages.action_spaces.base import Asking
from stages.core import params, paths, stage
from stages.core.files import write_table
from stages.core.schema import slate_table
from stages.corpus.histories import load
from stages.corpus.tasks import tasks_of
from stages.policy import backbone
from stages.policy.beam import next_items
from stages.policy.device import decoding_device
from stages.policy.rollout import sample_slates
from stages.policy.sharing import Reading
from stages.policy.task_lists import task_lists


def main(dataset: str, space: str, optimizer: str, seed: int) -> None:
    settings = params.load().on(space)
    decoding, sft, source = settings.recommend, settings.sft, paths.backbone(settings.axes.backbone)
    histories = load(paths.corpus(dataset))
    spelling = params.load_module("action_spaces", space, "--space")
    tokenizer = backbone.tokenizer(source)
    actions = spelling.Actions(paths.actions(dataset, space), histories, tokenizer, settings.policy)
    histories = actions.histories  # those of shared ids have one item for each
    model, card = backbone.load(
        paths.model(dataset, space, optimizer, seed), actions.fingerprint, source, settings.backbone
    )
    device = decoding_device()
    model.to(device)
    actions.to(device)
    asking = Asking(card.label, sft.history_items, settings.corpus(dataset).exclude_seen, settings.rl.slate_length)
    tables = []
    for split in ("valid", "test"):
        users = histories.judged(split, settings.evaluate.max_users, settings.evaluate.seed)
        for start in stage.progress(range(0, len(users), decoding.batch_size), f"recommend {split}"):
            part = users[start : start + decoding.batch_size]
            asked = actions.prompts(histories.contexts(part, split), asking).to(device)
            reading = Reading(model, asked)
            slates = sample_slates(reading, actions, [0.0], asking.slate_length, None)
            written = {
                "slate": (slates.items[:, 0], slates.item_log_probs[:, 0]),
                "beam": next_items(reading, actions, decoding.beam_width, decoding.list_length),
            }
            if asked.pool is not None:
                pool = asked.pool.items[:, : decoding.list_length]
                written["pool"] = (pool, -torch.arange(pool.shape[1]).expand_as(pool))
                if decoding.free:
                    free = sample_slates(reading, actions.free(), [0.0], asking.slate_length, None)
                    written["free"] = (free.items[:, 0], free.item_log_probs[:, 0])
            tables += [
                slate_table(part, split, decoder, items.cpu().numpy(), scores.cpu().numpy())
                for decoder, (items, scores) in written.items()
            ]
    asked = tasks_of(paths.corpus(dataset))
    if asked is not None and actions.answers is not None:
        folder = paths.actions(dataset, space)
        tables += task_lists(model, actions, asked, folder, decoding, asking.history_items, asking.slate_length, seed)
    row = paths.row(space, optimizer)
    order = [(name, "ascending") for name in ("split", "decoder", "user", "rank")]
    slates_of_all = pa.concat_tables(tables).sort_by(order).replace_schema_metadata({"model": card.made_by})
    write_table(paths.slates(dataset, row, seed), slates_of_all)


if __name__ == "__main__":
    stage.run(main, __doc__, "dataset", "space", "optimizer", "seed")

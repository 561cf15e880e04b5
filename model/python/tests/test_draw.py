"""Many machines: rows that fail, retries, what is there already; Ray with an actor killed."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
from conftest import QUICK

import aquatint
from aquatint.ray import Draw


def batch(count: int = 3) -> dict[str, np.ndarray]:
    return {
        "id": np.arange(count),
        "prompt": np.array([f"a fox {i}" for i in range(count)]),
        "num_inference_steps": np.array([1] * count),
    }


def draw(**how) -> Draw:
    return Draw(width=64, height=64, **how)


def test_rows_become_pictures_and_a_row_that_fails_does_not_stop_the_others(pipe):
    rows = batch()
    rows["num_inference_steps"][1] = 0
    made = draw()(rows)
    assert made["id"].tolist() == [0, 1, 2] and made["error"][0] == made["error"][2] == ""
    assert made["error"][1].startswith("RequestError: ") and made["picture"][1] == b""
    alone = pipe("a fox 2", seed=int(made["seed"][2]), **dict(QUICK, num_inference_steps=1))
    assert alone.pictures[0].encode() == made["picture"][2]
    assert made["parameters"][2] == alone.parameters[0]


def test_the_same_row_gives_the_same_bits_wherever_it_is_made():
    first, rows = draw()(batch()), batch()
    turned = draw()({name: column[::-1] for name, column in rows.items()})
    again = pickle.loads(pickle.dumps(draw()))(rows)
    assert list(turned["picture"][::-1]) == list(first["picture"]) == list(again["picture"])
    assert len(set(first["seed"])) == 3


def test_what_is_there_is_not_made_again(tmp_path, monkeypatch):
    first = draw(folder=tmp_path)(batch())
    assert sorted(str(path) for path in tmp_path.iterdir()) == sorted(first["path"])
    monkeypatch.setattr(aquatint.Pipeline, "__call__", lambda *_, **__: pytest.fail("made again"))
    again = draw(folder=tmp_path)(batch())
    for name in ("picture", "path", "seed", "parameters", "error"):
        assert list(first[name]) == list(again[name]), name
    other = draw(folder=tmp_path, guidance_scale=2.0).request({"prompt": "a fox 0"})
    assert str(draw(folder=tmp_path).path(other)) not in first["path"]


def test_a_model_that_cannot_be_loaded_fails_the_batch(tmp_path):
    with pytest.raises(aquatint.ModelError):
        Draw(tmp_path / "none")(batch())


def test_a_table_of_pandas_is_a_batch_and_dask_has_partitions_of_it():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(batch(4))
    made = draw()(table)
    assert list(made.columns) == [*table.columns, "picture", "path", "seed", "parameters", "error"]
    expected = draw()(batch(4))
    assert list(made["picture"]) == list(expected["picture"])
    dask = pytest.importorskip("dask.dataframe")
    meta = table.assign(picture=b"", path="", seed=0, parameters="", error="")
    spread = dask.from_pandas(table, npartitions=2).map_partitions(draw(), meta=meta)
    assert list(spread.compute(scheduler="synchronous")["picture"]) == list(expected["picture"])


RAY = """
import json, os, signal, sys, time
import numpy as np
import ray
from aquatint.ray import Draw

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)

class Mortal(Draw):
    '''Ends its process once, in the middle of the work.'''
    def __call__(self, batch):
        made = super().__call__(batch)
        killed = os.path.join({folder!r}, "killed")
        if 5 in batch["id"].tolist():
            try:
                os.close(os.open(killed, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return made
            os.kill(os.getpid(), signal.SIGKILL)
        return made

rows = ray.data.from_items([dict(id=i, prompt=f"a fox {{i}}", num_inference_steps=1) for i in range(10)])
rows = rows.repartition(5).map_batches(
    Mortal, fn_constructor_kwargs=dict(width=64, height=64), batch_size=2, num_cpus=1,
    compute=ray.data.ActorPoolStrategy(size=2))
made = {{row["id"]: (row["seed"], len(row["picture"]), row["error"], row["parameters"]) for row in rows.take_all()}}
assert os.path.exists(os.path.join({folder!r}, "killed"))
print("MADE", json.dumps([made[i] for i in range(10)]))
"""


def test_ray_makes_all_rows_though_an_actor_is_killed(tmp_path):
    pytest.importorskip("ray")
    import json

    text = RAY.format(folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=600)
    [line] = [line for line in done.stdout.splitlines() if line.startswith("MADE ")] or [done.stderr]
    assert line.startswith("MADE "), line
    made = json.loads(line.removeprefix("MADE "))
    expected = draw()(batch(10))
    assert [row[0] for row in made] == expected["seed"].tolist()
    assert [row[1] for row in made] == [len(picture) for picture in expected["picture"]]
    assert [row[3] for row in made] == expected["parameters"].tolist()  # digests of every step inside
    assert all(row[2] == "" for row in made)

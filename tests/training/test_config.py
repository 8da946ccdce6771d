"""Configurations: what is read, and in which words the rest is refused."""

from pathlib import Path

import pytest

from napari_metaqsm.errors import InputError
from napari_metaqsm.training.config import configuration_from, read_configuration

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("train*.toml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_is_readable(path):
    assert read_configuration(path).optimisation.learning_rate > 0


def test_the_paper_is_what_it_says():
    chosen = read_configuration(Path(EXAMPLES[0]).with_name("train_paper.toml"))
    assert chosen.optimisation.steps * chosen.data.samples_per_step == 30_000
    assert chosen.optimisation.optimiser == "rmsprop"
    assert (chosen.optimisation.learning_rate, chosen.optimisation.decay_steps) == (1e-4, 200)
    assert chosen.loss.weight_penalty == 0.01
    assert chosen.recipe.shape == (128, 128, 64)
    assert chosen.architecture.inputs == ("field",)
    assert chosen.architecture.conditions == ("voxel_size",)
    assert not chosen.architecture.residual


def test_lists_become_tuples_and_whole_numbers_become_floats():
    chosen = configuration_from({"recipe": {"voxel_size_mm": [1, 1, 2]}, "optimisation": {"steps": 1}})
    assert chosen.recipe.voxel_size_mm == (1.0, 1.0, 2.0)
    assert chosen.validation_voxels_mm == ((1.0, 1.0, 2.0),)


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"dat": {}}, "the configuration has no table 'dat'; it has data, recipe"),
        ({"data": {"lables": ""}}, r"\[data\] has no setting 'lables'; it has labels, maps"),
        ({"recipe": {"veins": 3}}, r"\[recipe\] has no setting 'veins'; it has shape"),
        ({"data": 3}, "data is 3; it must be a table"),
        ({"data": {"seed": -1}}, r"data\.seed is -1; it must lie in \[0"),
        ({"data": {"seed": True}}, r"data\.seed is True; it must be a whole number"),
        ({"data": {"labels": 5}}, r"data\.labels is 5; it must be text"),
        ({"data": {"maps": "a.nii"}}, r"data\.maps is 'a\.nii'; it must be a list"),
        ({"data": {"window": [8, 8]}}, r"data\.window is \(8, 8\); it must be three numbers"),
        ({"data": {"window": [400, 8, 8]}}, r"data\.window is \(400, 8, 8\); .* none above recipe\.shape"),
        ({"data": {"window": [20, 20, 20]}}, r"data\.window is \(20, 20, 20\); 4 levels need multiples of 8"),
        (
            {"data": {"window": [8, 8, 8]}, "loss": {"model_weight": 0.5}},
            r"loss\.model_weight needs the field of whole scans",
        ),
        ({"recipe": {"shape": [8, 8]}}, r"recipe\.shape is \[8, 8\]; it must be a list of 3"),
        ({"recipe": {"holes": float("nan")}}, r"recipe\.holes is nan; it must be a finite number"),
        (
            {"optimisation": {"optimiser": "sgd"}},
            r"optimisation\.optimiser is 'sgd'; it must be one of",
        ),
        ({"optimisation": {}}, "both 0; give one"),
        (
            {"recipe": {"shape": [90, 96, 48]}},
            r"shape is \(90, 96, 48\); 4 levels need multiples of 8",
        ),
        ({"architecture": {"inputs": ["phase"]}}, r"architecture\.inputs has 'phase'; it may hold field"),
        ({"architecture": {"levels": 0}}, r"architecture\.levels is 0; it must be at least 1"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(tables, words):
    tables = tables if "optimisation" in tables else {**tables, "optimisation": {"steps": 1}}
    with pytest.raises(InputError, match=words):
        configuration_from(tables)


def test_settings_replace_those_of_the_file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('[data]\nlabels = "heads"\n[optimisation]\nsteps = 5\n')
    chosen = read_configuration(
        path, ["optimisation.steps=7", "optimisation.optimiser=rmsprop", "recipe.shape=[16,16,16]"]
    )
    assert (chosen.optimisation.steps, chosen.optimisation.optimiser) == (7, "rmsprop")
    assert chosen.recipe.shape == (16, 16, 16)
    assert chosen.data.labels == str(tmp_path / "heads")


def test_a_path_in_a_setting_is_relative_to_where_one_stands(tmp_path, monkeypatch):
    path = tmp_path / "run.toml"
    path.write_text("[optimisation]\nsteps = 5\n")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    chosen = read_configuration(path, ['data.maps=["chi.nii"]', "data.labels=heads"])
    assert chosen.data.maps == (str(folder / "chi.nii"),)
    assert chosen.data.labels == str(folder / "heads")


@pytest.mark.parametrize("setting", ["steps=5", "optimisation.steps"])
def test_a_setting_needs_table_name_and_value(setting, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[optimisation]\nsteps = 5\n")
    with pytest.raises(InputError, match=r"it must be table\.name=value"):
        read_configuration(path, [setting])


def test_what_is_no_toml_is_refused(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[data\n")
    with pytest.raises(InputError, match="is not TOML"):
        read_configuration(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_configuration(tmp_path / "none.toml")

"""The README says what the code does."""

from pathlib import Path

from da3_ros.config_docs import replace_table

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_parameter_table_is_the_one_made_from_the_config():
    assert replace_table(README) == README, "run: .venv/bin/python -m da3_ros.config_docs README.md"


def test_pictures_and_documents_that_the_readme_links_exist():
    targets = [part.split(")")[0].split("#")[0] for part in README.split("](")[1:]]
    local = [target for target in targets if target and "://" not in target]
    assert local and not [target for target in local if not (ROOT / target).exists()]

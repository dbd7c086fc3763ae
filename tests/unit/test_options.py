"""`--metrics a b`: one option, several words."""

from __future__ import annotations

import pytest

from tsmcli.cli.shared import repeat_options


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--metrics top_k mean_class", "--metrics top_k --metrics mean_class"),
        ("--metrics a --metrics b", "--metrics a --metrics b"),
        ("--metrics a b --json", "--metrics a --metrics b --json"),
        ("file.npz --metrics a b --topk 1 5", "file.npz --metrics a --metrics b --topk 1 --topk 5"),
        ("--set a=1 b=-2 --preset x", "--set a=1 --set b=-2 --preset x"),
        ("--metrics a -- file", "--metrics a -- file"),
        ("--json file", "--json file"),
        ("", ""),
    ],
)
def test_words_after_an_option_repeat_it(words: str, expected: str) -> None:
    assert " ".join(repeat_options(words.split())) == expected

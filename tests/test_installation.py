import sys

import pytest

from tome_audio.installation import import_extra, import_matched


def test_a_fitting_package_is_returned():
    assert import_matched("math", "this test") is sys.modules["math"]


@pytest.mark.parametrize(
    "failure", ["RuntimeError('two CUDA\\nversions')", "OSError('libx.so')", "ImportError('gone')"]
)
def test_any_failure_is_one_sentence_with_versions(tmp_path, monkeypatch, failure):
    (tmp_path / "broken_package.py").write_text(f"raise {failure}")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError) as caught:
        import_matched("broken_package", "this test")
    message = str(caught.value)
    assert "\n" not in message and message.startswith("this test needs broken_package")
    assert "found torch 2." in message and "constraints.txt" in message


def test_an_absent_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.functional", None)
    wanted = r"this test needs torchmetrics, .*: pip install 'tome_audio\[recipes\]'"
    with pytest.raises(ImportError, match=wanted) as caught:
        import_extra("torchmetrics.functional", "this test", "recipes")
    assert "\n" not in str(caught.value)
    assert import_extra("math", "this test", "recipes") is sys.modules["math"]

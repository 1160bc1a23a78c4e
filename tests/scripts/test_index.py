from __future__ import annotations

from pathlib import Path

from environment.index import settings_of_pip, variables_for_uv


def configured(home: Path, text: str) -> dict[str, str]:
    (home / ".config/pip").mkdir(parents=True)
    (home / ".config/pip/pip.conf").write_text(text, encoding="utf-8")
    return {"HOME": str(home)}


def test_variables_win_over_files_and_later_sections_over_earlier(tmp_path: Path) -> None:
    env = configured(tmp_path, "[global]\nindex_url = first\ntimeout = 5\n[install]\nindex-url = second\n")
    assert settings_of_pip(env)["index-url"] == "second"
    settings = settings_of_pip({**env, "PIP_INDEX_URL": "third"})
    assert (settings["index-url"], settings["timeout"]) == ("third", "5")


def test_a_file_named_by_PIP_CONFIG_FILE_wins_and_devnull_means_none(tmp_path: Path) -> None:  # noqa: N802
    env = configured(tmp_path, "[global]\nindex-url = user\n")
    chosen = tmp_path / "chosen.conf"
    chosen.write_text("[global]\nindex-url = chosen\n", encoding="utf-8")
    assert settings_of_pip({**env, "PIP_CONFIG_FILE": str(chosen)})["index-url"] == "chosen"
    assert settings_of_pip({**env, "PIP_CONFIG_FILE": "/dev/null"}) == {}


def test_an_unreadable_file_is_passed_over(tmp_path: Path) -> None:
    assert "index-url" not in settings_of_pip(configured(tmp_path, "index-url without a section\n"))


def test_pip_settings_become_those_of_uv(tmp_path: Path) -> None:
    authority = tmp_path / "authority.pem"
    authority.write_text("", encoding="utf-8")
    env = {
        "HOME": str(tmp_path),
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_INDEX_URL": "https://mirror.invalid/simple",
        "PIP_EXTRA_INDEX_URL": "https://one.invalid/simple\nhttps://two.invalid/simple",
        "PIP_TRUSTED_HOST": "mirror.invalid",
        "PIP_CERT": str(authority),
        "PIP_PROXY": "proxy.invalid:3128",
        "PIP_DEFAULT_TIMEOUT": "180",
    }
    assert variables_for_uv(env) == {
        "UV_HTTP_TIMEOUT": "180",
        "UV_DEFAULT_INDEX": "https://mirror.invalid/simple",
        "UV_INDEX": "https://one.invalid/simple https://two.invalid/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INSECURE_HOST": "mirror.invalid",
        "SSL_CERT_FILE": str(authority),
        "HTTPS_PROXY": "http://proxy.invalid:3128",
        "HTTP_PROXY": "http://proxy.invalid:3128",
    }


def test_places_that_do_not_exist_are_dropped_because_uv_would_stop_at_them(tmp_path: Path) -> None:
    here = tmp_path / "wheels here"
    here.mkdir()
    env = {
        "HOME": str(tmp_path),
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_EXTRA_INDEX_URL": f"file://{tmp_path}/absent/simple {here.as_uri()}",
        "PIP_FIND_LINKS": str(tmp_path / "absent"),
    }
    found = variables_for_uv(env)
    assert found["UV_INDEX"] == here.as_uri()
    assert "UV_FIND_LINKS" not in found


def test_what_the_user_told_uv_is_left_alone(tmp_path: Path) -> None:
    env = {
        "HOME": str(tmp_path),
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_INDEX_URL": "https://pip.invalid/simple",
        "UV_INDEX_URL": "https://uv.invalid/simple",
        "PIP_PROXY": "pip.invalid:1",
        "https_proxy": "http://user.invalid:2",
        "UV_HTTP_TIMEOUT": "7",
    }
    found = variables_for_uv(env)
    assert not {"UV_DEFAULT_INDEX", "HTTPS_PROXY", "UV_HTTP_TIMEOUT"} & set(found)

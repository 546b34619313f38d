"""Whatever text is given as a URL: it parses and renders back, or is refused, and leaks nothing."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, example, given
from hypothesis import strategies as st

from infer_backends import InvalidURL, ModelURL
from infer_backends._replica_urls import replica_urls

names = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=12
).filter(lambda name: name not in {".", ".."})
hosts = st.from_regex(
    r"[a-z0-9_\-]{1,10}(\.[a-z0-9_\-]{1,10}){0,2}", fullmatch=True
) | st.ip_addresses(v=6).map(str)
options = st.lists(st.tuples(names.filter(lambda name: name != "version"), names), max_size=3)


@st.composite
def host_urls(draw: st.DrawFn) -> ModelURL:
    model = draw(st.none() | names)
    username = draw(st.none() | names.filter(lambda name: ":" not in name))
    base = draw(st.lists(names.filter(lambda name: name != "v2"), max_size=2))
    return ModelURL(
        scheme=draw(st.sampled_from(["http", "grpcs", "triton+http"])),
        host=draw(hosts),
        port=draw(st.none() | st.integers(1, 65535)),
        username=username,
        password=draw(st.none() | names) if username is not None else None,
        base_path=tuple(base),
        model=model,
        version=draw(st.none() | names),
        options=tuple(draw(options)),
    )


paths = st.builds(
    ModelURL,
    scheme=st.just("onnx"),
    path=names | st.builds("{}/{}".format, names, names),
    options=options.map(tuple),
)


@given(host_urls() | paths)
@example(ModelURL("onnx", path="//double.onnx"))
@example(ModelURL("onnx", path="8000/m.onnx"))
@example(ModelURL("http", host="h", model="v2"))
def test_a_rendered_url_parses_back_to_itself(url: ModelURL) -> None:
    assert ModelURL.parse(url.render(mask=False)) == url


@given(host_urls())
def test_a_masked_url_still_parses_and_shows_no_password(url: ModelURL) -> None:
    shown = ModelURL.parse(str(url))
    assert shown.password is None
    assert shown.username in {None, "***"}


@given(st.text() | st.text().map("http://{}".format) | st.text().map("onnx:{}".format))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        url = ModelURL.parse(text)
    except InvalidURL as exc:
        assert str(exc)
    else:
        assert ModelURL.parse(url.render(mask=False)) == url


secrets = st.text(min_size=6, max_size=20).filter(lambda text: text.strip() == text)


@given(secrets, st.sampled_from(["http://u:{}@h/m", "grpc://u:{}@h:1/m?auth=x", "http://{}@h/a/b"]))
def test_what_stands_before_the_at_is_never_shown(secret: str, template: str) -> None:
    marked = f"Zq7{secret}Zq8"
    try:
        shown = str(ModelURL.parse(template.format(marked)))
    except InvalidURL as exc:
        shown = str(exc)
    assert "Zq7" not in shown.split("write")[0]
    assert marked not in shown


hostports = st.lists(st.tuples(hosts, st.integers(1, 65535)), max_size=4, unique=True)


@given(host_urls(), hostports)
def test_replicas_are_the_url_with_other_hosts(
    url: ModelURL, others: list[tuple[str, int]]
) -> None:
    url = replace(url, options=tuple(pair for pair in url.options if pair[0] != "host"))
    assume((url.host, url.port) not in others)
    added = tuple(
        ("host", f"[{host}]:{port}" if ":" in host else f"{host}:{port}") for host, port in others
    )
    written = replace(url, options=(*added[:2], *url.options, *added[2:]))
    found = replica_urls(ModelURL.parse(written.render(mask=False)))
    assert found == (url, *(replace(url, host=host, port=port) for host, port in others))


@given(host_urls(), st.text().map("Zq7{}Zq8".format))
def test_any_host_option_is_a_replica_or_refused_and_shows_no_credentials(
    url: ModelURL, value: str
) -> None:
    try:
        replica_urls(replace(url, options=(("host", f"u:{value}@h"),)))
    except InvalidURL as exc:
        assert "Zq7" not in str(exc)
    else:
        raise AssertionError("credentials belong in the URL")

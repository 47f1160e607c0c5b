"""A message in and out of its bytes."""

import pytest

from infra.local.servicebus.codec import DecodeError, Described, Symbol, Timestamp, UByte, UInt, ULong, decode, encode
from infra.local.servicebus.message import Message
from infra.local.servicebus.requests import read_request
from infra.local.servicebus.sections import parse_message, split_batch, with_application_properties


def section(code: int, value: object) -> bytes:
    return encode(Described(ULong(code), value))


HEADER = section(0x70, [True, UByte(5), UInt(60_000), True, UInt(9)])
DELIVERY = section(0x71, {Symbol("d"): "v"})
ANNOTATIONS = section(
    0x72, {Symbol("a"): "v", Symbol("x-opt-sequence-number"): 99, Symbol("x-opt-scheduled-enqueue-time"): Timestamp(5)}
)
PROPERTIES = section(0x73, ["id", None, "to"])
APPLICATION = section(0x74, {"k": 1})
DATA = section(0x75, b"body")
FOOTER = section(0x78, {Symbol("f"): "v"})
WHOLE = HEADER + DELIVERY + ANNOTATIONS + PROPERTIES + APPLICATION + DATA + FOOTER


def sections(message: Message) -> list[tuple[int, object]]:
    data, position, found = message.render(locked=False), 0, []
    while position < len(data):
        value, position = decode(data, position)
        found.append((int(value.descriptor), value.value))
    return found


def test_what_belongs_to_the_sender_comes_out_as_it_went_in() -> None:
    """Readers check signatures over these bytes, and types matter to them."""
    message = parse_message(WHOLE)

    assert message.bare == PROPERTIES + APPLICATION + DATA + FOOTER
    assert message.render(locked=False).endswith(message.bare)
    assert (message.id, message.ttl, message.due) == ("id", 60_000, 5)
    assert [code for code, _ in sections(message)] == [0x70, 0x71, 0x72, 0x73, 0x74, 0x75, 0x78]


def test_what_belongs_to_the_broker_is_the_brokers() -> None:
    """A sender may send a received message on; its old number and count go no further."""
    message = parse_message(WHOLE)
    message.sequence = 7

    header, _, annotations = (value for _, value in sections(message)[:3])

    assert header == [True, 5, 60_000, True, 0]
    assert isinstance(annotations, dict)
    assert annotations["x-opt-sequence-number"] == 7
    assert annotations["a"] == "v"
    assert annotations["x-opt-scheduled-enqueue-time"] == 5


def test_sections_behind_the_body_are_put_in_their_place() -> None:
    """Python's client writes footer and delivery annotations last."""
    message = parse_message(HEADER + ANNOTATIONS + PROPERTIES + APPLICATION + DATA + FOOTER + DELIVERY)

    assert message.render(locked=False) == parse_message(WHOLE).render(locked=False)


def test_a_message_without_an_id_gets_one_and_keeps_the_rest() -> None:
    """The JavaScript client cannot renew the lock of a message that has none."""
    message = parse_message(section(0x73, [None, b"user"]) + DATA)
    properties, _, _ = read_request(message.bare)
    bodies_only = parse_message(DATA)

    assert message.id
    assert properties[:2] == [message.id, b"user"]
    assert message.bare.endswith(DATA)
    assert bodies_only.id != message.id
    assert bodies_only.bare.endswith(DATA)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(PROPERTIES + PROPERTIES, id="properties twice"),
        pytest.param(section(0x74, [1]), id="application properties that are a list"),
        pytest.param(section(0x75, "text"), id="data that is text"),
        pytest.param(section(0x70, ["yes"]), id="a header of other types"),
        pytest.param(section(0x79, b""), id="an unknown section"),
        pytest.param(DATA[:-1], id="a body cut short"),
        pytest.param(section(0x74, {"k": 1})[:-2] + b"\x3f\x01", id="a value of an unknown type"),
    ],
)
def test_a_malformed_message_is_refused_before_anybody_gets_it(wrong: bytes) -> None:
    """One sender's fault must not break every receiver."""
    with pytest.raises(DecodeError):
        parse_message(wrong)


@pytest.mark.parametrize("bare", [PROPERTIES + DATA, DATA, PROPERTIES + APPLICATION + DATA, PROPERTIES, b""])
def test_application_properties_are_merged_wherever_they_belong(bare: bytes) -> None:
    """Dead-lettering adds its reason to messages of every form."""
    _, application, _ = read_request(with_application_properties(bare, {"k": 2, "r": "why"}))

    assert application == {"k": 2, "r": "why"}


def test_a_batch_is_its_data_sections() -> None:
    """Properties on the envelope are the first message's and say nothing new."""
    batch = PROPERTIES + section(0x75, DATA) + section(0x75, b"x" * 300)

    assert split_batch(batch) == [DATA, b"x" * 300]
    with pytest.raises(DecodeError):
        split_batch(PROPERTIES)

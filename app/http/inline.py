"""Requests that the event loop answers itself: those of which a worker measured that they are cheap.

All others are left to a worker, be they new, unusual, expensive or wrong. An answer from here has the same bytes.
"""

import time
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple, Protocol

import orjson

from app.http.endpoints import Calculator, Endpoint
from app.http.messages import Answer, Call, Measure
from app.http.negotiation import VARY
from app.http.preparations import Hit, Preparations
from app.http.questions import Question
from app.http.templates import Templates
from app.programs.registry import UnknownProgramError
from app.settings import Settings
from app.stores import StoreUnavailableError
from app.wire import compression, media, msgpack
from app.wire.document import MalformedBodyError, loads
from app.wire.media import JSON
from engine.core import MAX_AXES, AutogradError, Lru

#: The longest body that is parsed on the event loop, and its brackets: a microsecond each, at most.
LONGEST_BODY = 1024
_MOST_BRACKETS = 64
#: Bytes of the headers that say what a request speaks and wants; a worker reads longer ones, which may take 30 ms.
_LONGEST_FORMS = 512
#: Brackets around the lists of a value: the request, its inputs, an array object.
_DEEPEST = MAX_AXES + 3
#: Combinations of headers that are remembered.
_COMBINATIONS = 256
#: A request is cheap if preparing it never took longer than this, and running it took less than that.
COLD_S = 0.02
WARM_S = 0.001
#: An answer that takes longer on the event loop is the last of its kind there.
BAN_S = 0.005
#: Preparing takes at most so many seconds of each second of the event loop.
PREPARING_SHARE = 0.1
#: Questions of which measurements are kept, and the bytes of all of them.
_MOST_QUESTIONS = 20_000
_RECORDS_BYTES = 20 * 2**20
#: Bytes of the objects of one, and of its key for each byte of the body: an item of a list may be one byte there, and
#: takes eight here.
_RECORD_BYTES = 1000
_KEY_BYTES = 10
_REFUSALS = (
    AutogradError,
    MalformedBodyError,
    StoreUnavailableError,
    UnknownProgramError,
    MemoryError,
    orjson.JSONDecodeError,
)


class _Forms(NamedTuple):
    """Media types of a body and its answer, and the codings that the answer may have."""

    given: str
    wanted: str
    accept_encoding: str
    is_json: bool
    content_type: tuple[bytes, bytes]


@dataclass(slots=True)
class _Record:
    """Measurements of a question on values of one form.

    cold_s: the longest that preparing and running it took.
    warm_s: the last run of what had been prepared; infinite before there was one.
    weight: the estimated cost of a run.
    """

    cold_s: float = 0.0
    warm_s: float = inf
    answers: int = 0
    weight: int = 0

    def note(self, measure: Measure) -> None:
        """Add an answer of a worker."""
        self.answers += 1
        self.weight = measure.weight
        # A request of another form may have been the one that had to be prepared.
        self.cold_s = max(self.cold_s, measure.cold_s)
        if measure.is_warm:
            self.warm_s = measure.cpu_s
        else:
            self.cold_s = max(self.cold_s, measure.cpu_s)

    def is_cheap(self, weight: int) -> bool:
        """Return whether the event loop may answer it."""
        return self.answers > 1 and self.cold_s <= COLD_S and self.warm_s < WARM_S and self.weight <= weight


class Lesson(NamedTuple):
    """A request of which something may be learned.

    key: of its measurements.
    is_cheap: whether they allow that it is prepared here.
    nbytes: size of what is kept of it.
    """

    key: tuple[Any, ...]
    is_cheap: bool
    nbytes: int


class Timer(Protocol):
    """Clocks of the module `time`; tests have others."""

    def monotonic(self) -> float:
        """Return seconds."""

    def perf_counter(self) -> float:
        """Return seconds."""

    def thread_time(self) -> float:
        """Return seconds of the processor that this thread has had."""


@dataclass(slots=True)
class _Budget:
    """Time of the event loop that may go into preparing, in seconds."""

    left_s: float = PREPARING_SHARE
    at: float = inf

    def is_left(self, now: float) -> bool:
        """Return whether anything may be prepared now."""
        self.left_s = min(PREPARING_SHARE, self.left_s + max(0.0, now - self.at) * PREPARING_SHARE)
        self.at = now
        return self.left_s > 0


class Inline:
    """Answers cheap requests, and learns which are.

    answered, banned: number of requests that were answered here, and of those that were the last of their kind.
    timer: measures what they take.

    Args:
        calculator: prepares requests that were measured cheap.
        preparations: its cache.
        templates: requests that are known by their letters.
        settings: the limits.
    """

    def __init__(
        self, calculator: Calculator, preparations: Preparations, templates: Templates, settings: Settings
    ) -> None:
        self.answered = 0
        self.banned = 0
        self.preparations = preparations
        self.templates = templates
        self.timer: Timer = time
        self._calculator = calculator
        # Values are not nested deeper than arrays may be, and the rest of a known request is not.
        is_deep_enough = settings.max_depth >= _DEEPEST
        self._longest = min(settings.tiny_bytes, settings.max_body_bytes, LONGEST_BODY) if is_deep_enough else 0
        self._weight = settings.tiny_flops
        self._max_depth = settings.max_depth
        self._forms: dict[tuple[bytes | None, ...], _Forms | None] = {}
        self._records: Lru[tuple[Any, ...], _Record] = Lru(_MOST_QUESTIONS, _RECORDS_BYTES)
        #: Keys of questions of which one run was slow.
        self._banned: Lru[tuple[Any, ...], bool] = Lru(_MOST_QUESTIONS, _RECORDS_BYTES)
        self._budget = _Budget()

    def answer(self, endpoint: Endpoint, headers: dict[bytes, bytes], body: bytes) -> Answer | Lesson | None:
        """Return the answer to a request, a lesson if it may be known later, and None if it never is.

        headers: none of them may have stood in the request twice.
        """
        forms = None if len(body) > self._longest else self._forms_of(headers)
        if forms is None:
            return None
        try:
            if forms.is_json:
                content = self.templates.answer(endpoint.path, body)
                if content is not None:
                    self.answered += 1
                    return _answer(content, forms)
            question = self._question(endpoint, body, forms)
            # A registered program is looked up in the store, which may have to wait for its disk.
            if question is None or question.program is not None:
                return None
            hit = self.preparations.find(question)
            if hit is not None:
                return self._run(endpoint, question, hit, forms, body)
        except _REFUSALS:
            return None
        key = _key(question, forms)
        record = self._records.get(key)
        is_cheap = record is not None and record.is_cheap(self._weight) and not self._banned.get(question.key)
        return Lesson(
            key, is_cheap and self._budget.is_left(self.timer.monotonic()), _RECORD_BYTES + _KEY_BYTES * len(body)
        )

    def prepare(self, endpoint: Endpoint, call: Call) -> Answer:
        """Answer a request that was measured cheap, which prepares it for the next ones.

        Raises:
            Exception: one of those in the table of problems.
        """
        start = self.timer.perf_counter()
        try:
            answer = self._calculator.answer(endpoint, call)
            self.answered += 1
            return answer._replace(way="inline")
        finally:
            self._budget.left_s -= self.timer.perf_counter() - start

    def learn(self, lesson: Lesson, answer: Answer) -> None:
        """Note what a worker measured of an answer."""
        if answer.measure is None or answer.status != 200:
            return
        record = self._records.get(lesson.key)
        if record is None:
            record = _Record()
            self._records.put(lesson.key, record, lesson.nbytes)
        record.note(answer.measure)

    def _run(self, endpoint: Endpoint, question: Question, hit: Hit, forms: _Forms, body: bytes) -> Answer:
        start = self.timer.thread_time()
        answer = _answer(endpoint.answer(hit, question.encoding, forms.wanted), forms)
        self.answered += 1
        if self.timer.thread_time() - start > BAN_S:
            # Its time depends on the values.
            self._banned.put(question.key, True, _RECORD_BYTES + _KEY_BYTES * len(body))
            self.preparations.forget(question)
            self.banned += 1
        elif forms.is_json and not question.along and question.encoding == "nested":
            self.templates.learn(endpoint, body, hit)
        return answer

    def _forms_of(self, headers: dict[bytes, bytes]) -> _Forms | None:
        """Return the forms of a request and its answer, None if a worker has to look."""
        get = headers.get
        if b"expect" in headers:
            return None
        wanted = get(b"content-type"), get(b"accept"), get(b"accept-encoding"), get(b"content-encoding")
        forms = self._forms.get(wanted)
        if forms is None and wanted not in self._forms:
            if sum(map(len, filter(None, wanted))) > _LONGEST_FORMS:
                return None
            if len(self._forms) >= _COMBINATIONS:
                self._forms.clear()
            forms = self._forms[wanted] = _negotiated(*((value or b"").decode("latin-1") for value in wanted))
        return forms

    def _question(self, endpoint: Endpoint, body: bytes, forms: _Forms) -> Question | None:
        """Return the question that a body asks, if no key stands twice in it."""
        media_type, answer_type = forms.given, forms.wanted
        if media_type != JSON:
            return endpoint.question(msgpack.decode(body, self._max_depth), media_type, answer_type)
        if body.count(b"[") + body.count(b"{") > _MOST_BRACKETS:
            return None
        question = endpoint.question(loads(body), media_type, answer_type)
        if question is None or body.count(b":") != question.colons or b"\\u" in body:
            return None
        return question


def _key(question: Question, forms: _Forms) -> tuple[Any, ...]:
    """Return the key of what is measured of a question: with the lengths of its values."""
    return question.key, forms, _lengths(list(question.inputs.values())), _lengths(list(question.along.values()))


def _lengths(value: Any) -> Any:
    """Return how lists are nested, and the lengths of other things."""
    if type(value) is list:
        return tuple(map(_lengths, value))
    return len(str(value)) if type(value) in (str, bytes, dict) else 0


def _answer(content: bytes, forms: _Forms) -> Answer:
    coding = compression.IDENTITY
    if len(content) >= compression.SMALLEST_BYTES:
        content, coding = compression.compressed(content, forms.accept_encoding)
    own = [(b"content-length", b"%d" % len(content)), forms.content_type]
    if coding != compression.IDENTITY:
        own += [(b"content-encoding", coding.encode()), (b"vary", VARY.encode())]
    return Answer(200, own, content, way="inline")


def _negotiated(content_type: str, accept: str, accept_encoding: str, content_encoding: str) -> _Forms | None:
    try:
        media_type = media.request_type(content_type)
        answer_type = media.answer_type(accept, media_type)
        is_plain = not content_encoding and compression.answer_coding(accept_encoding, 0) == compression.IDENTITY
    except (media.UnsupportedMediaTypeError, media.NotAcceptableError):
        return None
    if not is_plain:
        return None
    is_json = media_type == JSON == answer_type
    return _Forms(media_type, answer_type, accept_encoding, is_json, (b"content-type", answer_type.encode()))

"""Downloading the images that an archive or a table links to, with an index of what each is."""

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import shutil
import signal
import threading
import time

from lib.data.images import ImageError
from lib.download.fetch import LONGEST_WAIT, Client, FetchError
from lib.download.index import check_directory, known_images, write_errors, write_index
from lib.download.keep import keep
from lib.download.plan import about_plan, in_words, open_plan, settings_of_plan
from lib.errors import UsageError, WorkError
from lib.storage.journal import Journal, compare_settings
from lib.storage.tables import settings_of, write_settings
from lib.system.packages import versions_of
from lib.system.parallel import cores
from lib.system.progress import progress
from lib.system.words import counted

log = logging.getLogger(__name__)

MOST_FAILURES = 1_000  # A host is left alone once so many of its images have failed in a row.
MOST_SECONDS = 900  # It is left alone earlier if all of its images, at least FEWEST_FAILURES, have failed for so long.
FEWEST_FAILURES = 20  # Fewer failures never make a host be left alone, however long they take.
_TRIES = 5  # An image is tried at most so often.
_FEW_TROUBLES = 8  # Once so many images of a host in a row have failed at every try, the next ones get a single try.

_HIDDEN = ".partial"  # the directory, within that of the images, for what is not finished
_KIND = "downloads"


def download(settings):
    """Download the images that are not there yet; resume where an earlier call was stopped.

    `index.tsv` and `errors.tsv` appear in the directory when all is done.

    Args:
        settings: `lib.download.settings.Settings`.

    Returns:
        How many images there are under each licence, a `collections.Counter`; and how many failed.

    Raises:
        UsageError: the input has no such image, or the directory is another one's.
        WorkError: not one image could be downloaded, or the disk is full.
    """
    index = os.path.join(settings.output, "index.tsv")
    check_directory(settings.output)
    of_files, of_plan = {"longest": settings.longest}, about_plan(settings)
    with _directories(settings.output), Journal(
        f"{index}.partial", _KIND, of_files, settings.output, fresh=settings.overwrite
    ) as results:
        if not settings.overwrite:
            _notice_another_archive(settings, index, of_plan)
        if not len(results) and not settings.overwrite and os.path.exists(index):
            compare_settings({"longest": settings_of(index)[0].get("longest")}, of_files, index)
            results.extend((name.encode(), about, None) for name, about in known_images(index))
        with _hidden_directory(settings.output) as hidden, open_plan(settings, of_plan, hidden) as plan:
            counts = plan.count_images()
            left_out = in_words(plan.finished["left_out"])
            log.info(f"{counted(sum(counts.values()), 'image')} of {counted(len(counts), 'host')}{left_out}.")
            reasons = _fetch_missing(settings, plan, counts, results, hidden)
            with results.resumable():
                licences, failed = write_index(index, settings.output, plan, results)
                errors = os.path.join(settings.output, "errors.tsv")
                if failed:
                    write_errors(errors, plan, results, reasons)
                elif os.path.exists(errors):
                    os.unlink(errors)
                write_settings(index, {**of_plan, **of_files}, versions_of("aiohttp", "pillow"))
            others = sum("file" in about for _, about in results.facts()) - sum(licences.values())
            plan.remove()
        results.remove()
    if failed and not licences:
        raise WorkError(f"none of the {failed:,} images could be downloaded; see {errors}.")
    if others:
        log.info(f"{counted(others, 'image')} of earlier calls that this one leaves out stay in {settings.output}.")
    listed = f"{counted(failed, 'error')}, listed in {errors}" if failed else "no errors"
    log.info(f"{counted(sum(licences.values()), 'image')} in {settings.output}, listed in its index.tsv; {listed}.")
    return licences, failed


def _notice_another_archive(settings, index, about):
    """Log if an earlier call, finished or not, read another archive."""
    former = settings_of_plan(os.path.join(settings.output, _HIDDEN)) or settings_of(index)[0]
    if former and former.get("input_sha256") != about["input_sha256"]:
        left = "images that are there already are not fetched again"
        log.info(f"{settings.input} is not what {settings.output} was downloaded from before; {left}.")


@contextlib.contextmanager
def _directories(output):
    """Make the directories; if the block refuses the call, those that are empty go again."""
    hidden = os.path.join(output, _HIDDEN)
    try:
        os.makedirs(hidden, exist_ok=True)
    except OSError as error:
        raise WorkError(f"{output} can't be written to ({error.strerror}).", "output") from error
    try:
        yield
    except UsageError:
        with contextlib.suppress(OSError):
            os.rmdir(hidden)
            os.rmdir(output)
        raise


@contextlib.contextmanager
def _hidden_directory(output):
    """The directory for what is not finished, emptied of what a killed call left, but for the plan."""
    hidden = os.path.join(output, _HIDDEN)
    for name in os.listdir(hidden):
        if not name.startswith("plan"):
            os.unlink(os.path.join(hidden, name))
    yield hidden
    shutil.rmtree(hidden)


def _fetch_missing(settings, plan, counts, results, hidden):
    """Fetch the images that are not there; returns host -> why it was given up, for those that were."""
    with concurrent.futures.ThreadPoolExecutor(cores(settings.processors)) as pool, progress(
        sum(counts.values()), "images"
    ) as advance:
        work = _Work(settings, plan, results, hidden, pool, advance)
        reasons = _run(work.all(counts))
    results.save()
    for host, reason in reasons.items():
        log.info(f"{host or 'no host'}: {reason}; run the same command later for the rest of its images.")
    return reasons


def _run(work):
    """Run a coroutine to its end; Ctrl-C and SIGTERM cancel it, and act when all is closed."""
    received = []

    async def main():
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def stop(number):
            received.append(number)
            task.cancel()

        former = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            if threading.current_thread() is threading.main_thread():
                former[number] = signal.getsignal(number)
                loop.add_signal_handler(number, stop, number)
        try:
            return await work
        finally:
            for number, handler in former.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        if received:
            signal.raise_signal(received[0])
        raise


class _Work:
    """The fetching of all images: who asks for what, and what is noted about it."""

    def __init__(self, settings, plan, results, hidden, pool, advance):
        self._settings, self._plan, self._results = settings, plan, results
        self._hidden, self._pool, self._advance = hidden, pool, advance
        self._client = None

    async def all(self, counts):
        """Fetch all images that are not there; returns host -> why it was given up."""
        # In the default one names are resolved: one that gets no answer must not keep others waiting.
        lookups = concurrent.futures.ThreadPoolExecutor(self._settings.connections)
        asyncio.get_running_loop().set_default_executor(lookups)
        async with Client(self._settings) as self._client:
            tasks = [asyncio.ensure_future(self._all_of(name)) for name in counts]
            try:
                await asyncio.gather(*tasks)
            finally:  # such as a full disk: nothing goes on without the rest
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            ended = {name: self._client.host(name).ended for name in counts}
        return {name: reason for name, reason in ended.items() if reason}

    async def _all_of(self, name):
        """Fetch the images of a host, several at once."""
        host, images = self._client.host(name), self._plan.images_of(name)

        async def ask():
            for image in images:
                if self._is_there(image):
                    self._advance(1)
                    await asyncio.sleep(0)
                elif host.ended:
                    return
                else:
                    await self._one(host, image)

        await asyncio.gather(*(ask() for _ in range(self._settings.per_host)))

    def _is_there(self, image):
        about = self._results.find(image.name.encode())
        if not about or "file" not in about:
            return False
        try:
            return os.path.getsize(os.path.join(self._settings.output, about["file"])) == about["bytes"]
        except OSError:
            return False

    async def _one(self, host, image):
        """Fetch an image, with pauses and repeated if that may help, and note the result."""
        path = os.path.join(self._hidden, image.name)
        for left in reversed(range(_TRIES if host.troubles < _FEW_TROUBLES else 1)):
            await host.wait()
            if host.ended:
                return
            try:
                fetched = await self._client.fetch(image.url, path)
                work = (keep, path, fetched, image.name, self._settings.output, self._settings.longest)
                kept = await asyncio.get_running_loop().run_in_executor(self._pool, *work)
            except (FetchError, ImageError) as error:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                if self._goes_on(host, error) and left:
                    continue
                self._fail(host, image, error)
                return
            host.failures, host.troubles, host.since = 0, 0, None
            self._results.add(image.name.encode(), None, {"file": kept.file, "sha256": kept.sha256, "bytes": kept.size})
            self._advance(1, fetched.size)
            return

    def _goes_on(self, host, error):
        """Whether an image may be tried again; if so its host gets a pause."""
        if not getattr(error, "passing", False):
            return False
        if error.wait is not None and error.wait > LONGEST_WAIT:
            host.ended = f"asks to wait {error.wait:,.0f} seconds ({error})"
            return False
        host.pause(error.wait)
        return True

    def _fail(self, host, image, error):
        self._results.add(image.name.encode(), None, {"error": str(error)})
        self._advance(1)
        host.failures += 1
        host.troubles = host.troubles + 1 if getattr(error, "passing", False) else 0
        host.since = host.since or time.monotonic()
        seconds = time.monotonic() - host.since
        if host.failures >= MOST_FAILURES or (host.failures >= FEWEST_FAILURES and seconds > MOST_SECONDS):
            host.ended = host.ended or f"given up after {host.failures:,} failures in a row, the last: {error}"

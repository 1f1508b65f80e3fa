"""A web server for `download.py`: any path is a JPEG of 100 kB, 20 ms away. Prints its port."""

import asyncio
import io
import random

from aiohttp import web
from PIL import Image


def picture():
    """A JPEG of about 100 kB."""
    noise = bytes(random.Random(1).getrandbits(8) for _ in range(3 * 240 * 180))
    file = io.BytesIO()
    Image.frombytes("RGB", (240, 180), noise).save(file, "JPEG", quality=97, subsampling=0)
    return file.getvalue()


async def main():
    """Serve for ever."""
    content = picture()

    async def answer(request):
        await asyncio.sleep(0.02)
        return web.Response(body=content, content_type="image/jpeg")

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "0.0.0.0", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())

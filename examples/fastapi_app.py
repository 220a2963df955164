"""A camera in your own FastAPI application: SOURCE=camera0 uvicorn --app-dir examples fastapi_app:app"""

import os
import threading

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

import edge_runtime
from pipelines.camera import Frame, open_camera

app = FastAPI()
watcher = edge_runtime.watch(os.environ.get("BUNDLE", "nano"))


def push():
    for item in open_camera(os.environ.get("SOURCE", "test:")):
        if isinstance(item, Frame):
            watcher.push(item.image, item.pts)


@app.post("/ask")
def ask(text: str, threshold: float = 0.5):
    return watcher.ask(text, policy=edge_runtime.PolicySettings(threshold=threshold))


@app.get("/events")
async def events():
    async def lines():
        with watcher.events() as responses:
            async for response in responses:
                yield f"data: {response.query}: {response.text}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


threading.Thread(target=push, daemon=True).start()

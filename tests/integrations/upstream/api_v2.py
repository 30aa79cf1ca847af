"""Stands in for upstream's ``api_v2.py``: a pipeline behind HTTP, restarted by replacing itself."""

import argparse
import io
import json
import os
import sys
import urllib.parse
import wave
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

now_dir = os.path.dirname(os.path.abspath(__file__))
sys.path.append(now_dir)
sys.path.append(f"{now_dir}/GPT_SoVITS")

from GPT_SoVITS.TTS_infer_pack.TTS import TTS, TTS_Config  # noqa: E402

parser = argparse.ArgumentParser(description="GPT-SoVITS api")
parser.add_argument("-c", "--tts_config", default="GPT_SoVITS/configs/tts_infer.yaml")
parser.add_argument("-a", "--bind_addr", default="127.0.0.1")
parser.add_argument("-p", "--port", type=int, default=9880)
args = parser.parse_args()
argv = sys.argv
tts_pipeline = TTS(TTS_Config(args.tts_config))


def wav(rate, samples):
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return data.getvalue()


class Handler(BaseHTTPRequestHandler):
    def answer(self, status, data):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def query(self):
        return dict(urllib.parse.parse_qsl(urllib.parse.urlparse(self.path).query))

    def speak(self, request, required):
        missing = [name for name in required if not request.get(name)]
        if missing:
            self.answer(400, json.dumps({"message": f"{missing[0]} is required"}).encode())
            return
        try:
            pieces = list(tts_pipeline.run(request))
            self.answer(200, wav(*pieces[0]))
        except Exception as error:
            self.answer(
                400, json.dumps({"message": "tts failed", "Exception": str(error)}).encode()
            )

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.path.startswith("/tts_with_cached_voice"):
            self.speak(self.query(), ("voice_name", "text"))
        else:
            self.speak(json.loads(body), ("ref_audio_path", "text", "text_lang", "prompt_lang"))

    def do_GET(self):
        query = self.query()
        if self.path.startswith("/set_sovits_weights"):
            tts_pipeline.init_vits_weights(query["weights_path"])
            self.answer(200, b'{"message": "success"}')
        elif query.get("command") == "restart":
            self.answer(200, b"")
            httpd.server_close()
            os.execl(sys.executable, sys.executable, *argv)
        elif query.get("command") == "exit":
            self.answer(200, b"")
            os._exit(0)

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    httpd = ThreadingHTTPServer((args.bind_addr, args.port), Handler)
    print(f"listening {httpd.server_port}", flush=True)
    httpd.serve_forever()

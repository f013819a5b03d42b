"""Texts whose tokens `modelpilot bench decision` counts: ten languages, code, and what machines write."""

import json
import random
from collections.abc import Mapping
from typing import Any

_SEED = 20_261_130
LENGTH = 200_000  # characters of each long text

LANGUAGES: Mapping[str, str] = {
    "English": "The router reads a prompt, looks for similar ones, and asks the model that will answer it best. "
    "When a provider fails, another one goes on before anybody notices. Last Tuesday it saved us eleven dollars. ",
    "German": "Der Vermittler liest eine Anfrage, sucht ähnliche und fragt das Modell, das sie am besten löst. "
    "Fällt ein Anbieter aus, übernimmt ein anderer, bevor es jemand merkt. Am Dienstag sparte das elf Euro. ",
    "French": "Le routeur lit une demande, en cherche de semblables et interroge le modèle qui y répondra le "
    "mieux. Si un fournisseur tombe en panne, un autre prend le relais avant qu'on ne s'en aperçoive. ",
    "Spanish": "El enrutador lee una petición, busca otras parecidas y pregunta al modelo que la responderá "
    "mejor. Cuando un proveedor falla, otro continúa antes de que alguien lo note. El martes ahorró once euros. ",
    "Russian": "Маршрутизатор читает запрос, ищет похожие и спрашивает модель, которая, вероятно, ответит лучше всех. "
    "Если поставщик отказал, другой продолжает раньше, чем это кто-нибудь заметит. ",
    "Arabic": "يقرأ الموجّه الطلب ويبحث عن طلبات مشابهة ثم يسأل النموذج الذي سيجيب عنه على الأرجح أفضل إجابة. "
    "وإذا تعطّل مزوّد واصل مزوّد آخر العمل قبل أن يلاحظ أحد ذلك. ",
    "Hindi": "राउटर एक अनुरोध पढ़ता है, उससे मिलते-जुलते अनुरोध खोजता है और उस मॉडल से पूछता है जो शायद सबसे अच्छा उत्तर देगा। "
    "कोई प्रदाता विफल हो जाए तो दूसरा काम सँभाल लेता है। ",
    "Chinese": "路由器先读取请求，再查找相似的请求，然后询问最有可能给出最佳答案的模型。如果某个供应商出了故障，"
    "在任何人注意到之前，另一个就会接着工作。上周二它替我们省下了十一美元。",
    "Japanese": "ルーターは依頼を読み、似たものを探し、最もよく答えられそうなモデルに尋ねます。ある提供元が止まっても、"
    "誰かが気づく前に別の提供元が引き継ぎます。先週の火曜日には十一ドルを節約しました。",
    "Korean": "라우터는 요청을 읽고 비슷한 요청을 찾은 다음 가장 잘 답할 것 같은 모델에 묻습니다. "
    "한 공급자가 멈추면 누군가 알아차리기 전에 다른 공급자가 이어서 일합니다. ",
}
_CODE = '''def settle(orders: list[Order], rates: dict[str, float]) -> dict[str, float]:
    """Add up what each customer owes, in euros."""
    owed: dict[str, float] = defaultdict(float)
    for order in orders:
        if order.cancelled_at is None and order.total > 0:
            owed[order.customer_id] += order.total * rates.get(order.currency, 1.0)
    return {customer: round(amount, 2) for customer, amount in sorted(owed.items())}


'''


def tool(number: int) -> dict[str, Any]:
    """A definition as agents send them."""
    properties = {
        "path": {"type": "string", "description": "The file, relative to the root of the project"},
        "limit": {"type": "integer", "minimum": 1, "maximum": 2_000, "description": "How many lines to read at most"},
        "mode": {"type": "string", "enum": ["text", "binary", "lines"]},
    }
    schema = {"type": "object", "properties": properties, "required": ["path"], "additionalProperties": False}
    about = "Read a file of the project and answer with its lines, each with its number"
    return {"type": "function", "function": {"name": f"read_file_{number}", "description": about, "parameters": schema}}


def arguments(draw: random.Random) -> str:
    """Of a call that writes a file."""
    lines = draw.sample(_CODE.splitlines(keepends=True), 5)
    return json.dumps({"path": f"src/part_{draw.randrange(900)}.py", "content": "".join(lines)})


def texts() -> dict[str, str]:
    """One long text of each kind, by its name; the same in every run."""
    draw = random.Random(_SEED)
    rows = [
        {"id": n, "email": f"user{n}@example.com", "score": draw.random(), "open": n % 3 == 0} for n in range(3_000)
    ]
    made = {name: _shuffled(text, draw) for name, text in LANGUAGES.items()}
    made["code"] = _CODE * (LENGTH // len(_CODE))
    made["hex"] = draw.randbytes(LENGTH // 2).hex()
    made["JSON"] = json.dumps(rows)[:LENGTH]
    made["tool schemas"] = json.dumps([tool(number) for number in range(LENGTH // 420)], separators=(",", ":"))
    made["tool arguments"] = "".join(arguments(draw) for _ in range(LENGTH // 400))
    made["all of them"] = "".join(text[: LENGTH // len(made)] for text in [*made.values()])
    return made


def _shuffled(text: str, draw: random.Random) -> str:
    """Its clauses in any order, over and over: no text repeats itself in step with a sample."""
    ends = str.maketrans({mark: f"{mark}\0" for mark in ".,।。，、؟"})
    clauses = [clause for clause in text.translate(ends).split("\0") if clause]
    return "".join(draw.choices(clauses, k=LENGTH * len(clauses) // len(text)))

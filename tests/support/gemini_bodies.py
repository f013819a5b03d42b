"""Requests in Gemini's generateContent format."""

from typing import Any


def turn(role: str, *parts: dict[str, Any]) -> dict[str, Any]:
    """One content."""
    return {"role": role, "parts": list(parts)}


def body(*contents: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A generateContent request."""
    return {"contents": list(contents) or [turn("user", {"text": "Hi"})], **fields}


FULL = body(
    turn("user", {"text": "What is it?"}, {"inlineData": {"mimeType": "image/png", "data": "a-_b"}}),
    turn("model", {"functionCall": {"name": "look", "args": {"far": True}}, "thoughtSignature": "c2ln"}),
    turn("user", {"functionResponse": {"name": "look", "response": {"seen": 1}}}),
    systemInstruction={"parts": [{"text": "Be brief."}]},
    tools=[{"functionDeclarations": [{"name": "look", "parameters": {"type": "OBJECT", "maxProperties": "2"}}]}],
    toolConfig={"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look"]}},
    generationConfig={
        "temperature": 0.5, "topP": 0.9, "topK": 40.0, "maxOutputTokens": "100", "stopSequences": ["END"],
        "candidateCount": 2, "seed": 7, "presencePenalty": 1, "frequencyPenalty": -1, "responseLogprobs": True,
        "logprobs": 3, "responseMimeType": "application/json",
        "responseSchema": {"type": "STRING", "nullable": True}, "thinkingConfig": {"thinkingBudget": 7000},
    },
    safetySettings=[{"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "BLOCK_NONE"}],
    labels={"team": "a"},
    somethingNew={"a": 1},
)  # fmt: skip
RICH = body(
    turn("user", {"fileData": {"mimeType": "application/pdf", "fileUri": "https://x/y", "displayName": "y"}}),
    turn("model", {"text": "Hm", "thought": True, "thoughtSignature": "c2ln"}, {"text": "So"}),
    turn("user", {"inlineData": {"mimeType": "text/plain", "data": "SGk="}}),
    turn("model", {"functionCall": {"id": "c", "name": "look"}}),
    turn("user", {"functionResponse": {"id": "c", "name": "look", "response": {"result": "x"}, "parts": [
        {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}},
    ]}}),
    tools=[{"functionDeclarations": [{"name": "look", "description": "d", "parametersJsonSchema": {"a": []}}]}],
    generationConfig={
        "responseModalities": ["TEXT"], "responseJsonSchema": {"type": "object"}, "responseMimeType": "text/plain",
        "thinkingConfig": {"thinkingLevel": "LOW", "includeThoughts": True},
        "responseSchema": {
            "type": "OBJECT", "properties": {"a": {"anyOf": [{"type": "STRING"}], "enum": ["x"], "nullable": True}},
            "propertyOrdering": ["a"], "minProperties": "1", "defs": {"x": {"type": "STRING"}},
        },
    },
    modelpilot={"tags": {"a": "b"}},
)  # fmt: skip

#!/usr/bin/env bash
# aider: one message, whose answer holds the edits as text.

# --- setup
export OPENAI_API_BASE=$MODELPILOT_API_URL/v1
export OPENAI_API_KEY=$MODELPILOT_API_KEY
export AIDER_ANALYTICS=false AIDER_CHECK_UPDATE=false AIDER_SHOW_MODEL_WARNINGS=false
# --- end of setup

. "$(dirname "$0")/features.sh"

ask() { # model, message, more options
  aider --model "openai/$1" --no-git --yes-always --no-pretty --no-show-release-notes --message "$2" "${@:3}" < /dev/null
}

chat() { ask "$1" "$SUM" --chat-mode ask --no-stream | has 84; }

stream() { ask "$1" "$SUM" --chat-mode ask | has 84; }

task() {
  local at
  at=$(mktemp -d)
  echo "the secret is 4217" > "$at/notes.txt"
  (
    cd "$at" && ask "$1" "Change the secret. Answer with exactly: notes.txt
\`\`\`
the secret is 7124
\`\`\`" --edit-format whole notes.txt
  ) > "$at/log" && has "the secret is 7124" < "$at/notes.txt" || { tail -n 30 "$at/log"; return 1; }
}

usage() { ask "$1" "$SUM" --chat-mode ask | has "Tokens: "; }

unknown_model() { ask "$1" "$SUM" --chat-mode ask 2>&1 | has NotFoundError; }

wrong_key() { OPENAI_API_KEY=$WRONG_KEY ask "$1" "$SUM" --chat-mode ask 2>&1 | has AuthenticationError; }

cancel() {
  PYTHONUNBUFFERED=1 interrupt_at "= 84" 0 aider --model "openai/$1" --no-git --yes-always --no-pretty \
    --chat-mode ask --message "$SUM"
}

run chat stream "tools=edits are text" "structured=has none" "image=pictures of a chat only" "embeddings=has none" \
  unknown_model wrong_key usage cancel task

#!/usr/bin/env bash
# Codex: questions and tasks without a terminal.

# --- setup
mkdir -p ~/.codex
cat > ~/.codex/config.toml << TOML
model = "router/demo"
model_provider = "modelpilot"

[model_providers.modelpilot]
name = "ModelPilot"
base_url = "$MODELPILOT_API_URL/v1"
env_key = "MODELPILOT_API_KEY"
wire_api = "responses"
TOML
# --- end of setup

. "$(dirname "$0")/features.sh"

ask() { # model, prompt, more options
  codex exec --model "$1" --skip-git-repo-check --sandbox danger-full-access --ephemeral --json "${@:3}" -- "$2" < /dev/null
}

chat() { ask "$1" "$SUM" | has "84"; }

# Two commands at once, by the answer of one provider, and another provider goes on.
tools() {
  local at
  at=$(mktemp -d)
  ask "$1" "Run both commands, note $RANDOM$RANDOM
call exec_command {\"cmd\": \"echo one > $at/a.txt\"} & call exec_command {\"cmd\": \"echo two > $at/b.txt\"}" || return 1
  has one < "$at/a.txt" && has two < "$at/b.txt"
}

# A task of several calls, each seen on disk.
task() {
  local at
  at=$(mktemp -d)
  echo "the secret is 4217" > "$at/notes.txt"
  (
    cd "$at" && ask "$1" "Copy the notes, then change the copy.
call exec_command {\"cmd\": \"cat notes.txt\"}
call exec_command {\"cmd\": \"cp notes.txt copy.txt\"}
call exec_command {\"cmd\": \"apply_patch << 'P'\\n*** Begin Patch\\n*** Update File: copy.txt\\n@@\\n-the secret is 4217\\n+the secret is 7124\\n*** End Patch\\nP\"}"
  ) && has "the secret is 7124" < "$at/copy.txt"
}

image() {
  base64 -d <<< "$PIXEL" > "$HOME/pixel.png"
  ask "$1" "What is in the picture?" --image "$HOME/pixel.png" | has agent_message
}

structured() {
  echo '{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}' \
    > "$HOME/schema.json"
  ask "$1" "A city, please" --output-schema "$HOME/schema.json" --output-last-message "$HOME/last" && has '"city"' < "$HOME/last"
}

usage() { ask "$1" "$SUM" | has '"output_tokens":'; }

unknown_model() { ! ask "$1" "$SUM" > "$HOME/said" 2>&1 && has "does not exist" < "$HOME/said"; }

wrong_key() { ! MODELPILOT_API_KEY=$WRONG_KEY ask "$1" "$SUM" > "$HOME/said" 2>&1 && has 401 < "$HOME/said"; }

# Codex prints nothing of an answer before its end, so it is given the time to ask.
cancel() { interrupt_at turn.started 3 codex exec --model "$1" --skip-git-repo-check --ephemeral --json -- "$SUM"; }

run chat "stream=prints whole messages" tools structured image "embeddings=has none" unknown_model wrong_key usage \
  cancel task

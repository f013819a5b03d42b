# What the programs of command line clients share; features.py is the same for Python. Each feature is a function that
# takes the model's name and succeeds or not; `run feature other=why-the-client-has-none …` tries them.

PIXEL=iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=
SUM="What is 12 * 7?"
WRONG_KEY=mp_$(printf '0%.0s' {1..64})

question() { echo "Use get_weather and get_time for Paris, note $RANDOM$RANDOM"; }

_line() { # feature, kind of line, text
  python3 -c 'import json, sys; print(json.dumps({"feature": sys.argv[1], **dict([sys.argv[2:4]] if sys.argv[2:] else [])}))' "$@"
}

_models() {
  case $1 in
    tools) echo router/turns-1 router/turns-2 router/turns-3 ;;
    embeddings) echo sim/embed ;;
    unknown_model) echo router/none ;;
    wrong_key) echo router/openai ;;
    cancel) echo router/long ;;
    *) echo router/openai router/claude router/gemini ;;
  esac
}

_tried() { # feature
  local model said
  for model in $(_models "$1"); do
    if ! said=$("$1" "$model" 2>&1); then
      _line "${1//_/ }" failure "$model: $(tail -c 600 <<< "$said")"
      return
    fi
  done
  _line "${1//_/ }"
}

run() {
  local wanted name
  for wanted in "$@"; do
    name=${wanted%%=*}
    if [[ $wanted == *=* ]]; then _line "${name//_/ }" none "${wanted#*=}"; else _tried "$name"; fi
  done
}

# Succeed if standard input has this text; show it if not.
has() {
  local said
  said=$(cat)
  [[ $said == *"$1"* ]] || { echo "no '$1' in: $said"; return 1; }
}

# Run a command until it has printed this text, then interrupt it, as a person would by Ctrl-C.
interrupt_at() { # text, seconds to go on after it, command
  local said="" piece ended
  coproc running { trap - INT; exec "${@:3}" < /dev/null; }
  local pid=$running_PID
  until [[ $said == *"$1"* || ${ended:-} == 1 ]]; do # a status over 128: nothing more for now
    IFS= read -r -t 0.2 -N 65536 piece <&"${running[0]}" || ended=$?
    said+=$piece
  done
  sleep "$2"
  kill -INT "$pid"
  wait "$pid" || true
}

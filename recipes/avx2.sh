#!/bin/sh
# recipes/compiled.py on a processor with AVX-512 that is held to AVX2: docs/benchmarks.md, "In float32".
#
#     sh recipes/avx2.sh
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/g++" <<EOF
#!/bin/sh
exec $(command -v g++) "\$@" -march=haswell
EOF
chmod +x "$folder/g++"
export ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 ATEN_CPU_CAPABILITY=avx2
PATH="$folder:$PATH" .venv/bin/python recipes/compiled.py

#!/usr/bin/env bash
# Makes the function's folder, and a zip of it that is the same byte for byte from the same sources:
#
#   deploy/function/build.sh [FOLDER]        FOLDER is dist/function when omitted; FOLDER.zip lies beside it
#
# PYTHON_VERSION=3.13 and PLATFORM=x86_64-manylinux_2_28 (or aarch64-manylinux_2_28) say where it will run, and
# EXTRA="s3fs" adds packages, as a store in a bucket needs. STORE=folder takes a store along, as MLW_STORE_URL=store.
# The handler is ml_workbench.serve.function.handler. Needs uv.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
folder=${1:-$here/dist/function}
version=${PYTHON_VERSION:-3.13}
target=(--target "$folder" --python-version "$version" --python-platform "${PLATFORM:-x86_64-manylinux_2_28}")
limit_mb=${LIMIT_MB:-250} # what AWS Lambda takes, unzipped

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
mkdir "$build/sources"
cp -R "$here/ml_workbench" "$here/pyproject.toml" "$here/README.md" "$here/LICENSE" "$build/sources"
find "$build/sources" -name __pycache__ -prune -exec rm -rf {} +

rm -rf "$folder" "$folder.zip"
mkdir -p "$folder"
uv build --quiet --wheel --build-constraints "$here/requirements.lock" --require-hashes --out-dir "$build" "$build/sources"
uv pip install --quiet "${target[@]}" --only-binary :all: --require-hashes --constraints "$here/requirements.lock" \
    --requirements "$here/pyproject.toml" --extra function
uv pip install --quiet "${target[@]}" --no-deps "$build"/*.whl
if [ -n "${EXTRA:-}" ]; then
    uv pip freeze --path "$folder" | grep '==' >"$build/installed.txt" # it moves nothing of what is locked
    # shellcheck disable=SC2086 # several packages are several words
    uv pip install --quiet "${target[@]}" --only-binary :all: --constraints "$build/installed.txt" $EXTRA
fi
if [ -n "${STORE:-}" ]; then
    cp -R "$STORE" "$folder/store"
fi

# What no function runs, and what would make two builds differ.
rm -rf "${folder:?}/bin" "$folder/.lock" "$folder/numpy/_core/include" "$folder/numpy/f2py"
find "$folder" -type d \( -name tests -o -name __pycache__ \) -prune -exec rm -rf {} +
find "$folder" -type f \( -name '*.pyi' -o -name '*.c' -o -name '*.h' -o -name '*.pyx' -o -name '*.pxd' \
    -o -path '*.dist-info/RECORD' -o -path '*.dist-info/direct_url.json' -o -path '*.dist-info/uv_*.json' \) -delete

# The folder is read-only where it runs: without bytecode every cold start would compile it, and take a second more.
if "python$version" -c "" 2>/dev/null; then
    "python$version" -m compileall -q -s "$folder" -p /var/task --invalidation-mode unchecked-hash "$folder"
else
    echo "python$version is not here: no bytecode in the package, cold starts take a second more" >&2
fi

python3 - "$folder" "$limit_mb" <<'PY'
import sys
import zipfile
from pathlib import Path

folder, limit = Path(sys.argv[1]), int(sys.argv[2])
files = sorted((path for path in folder.rglob("*") if path.is_file()), key=Path.as_posix)
with zipfile.ZipFile(f"{folder}.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=6) as packed:
    for path in files:
        entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), (2020, 1, 1, 0, 0, 0))
        entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o100644 << 16
        packed.writestr(entry, path.read_bytes())
size, zipped = (sum(path.stat().st_size for path in some) / 1e6 for some in (files, [Path(f"{folder}.zip")]))
print(f"{folder}: {len(files):,} files, {size:.0f} MB; as {folder.name}.zip {zipped:.0f} MB")
sys.exit(f"more than the {limit} MB that a function may have" if size > limit else 0)
PY

#!/bin/bash
# vendor-containerd-protos.sh DIR: copies containerd's API definitions (Apache-2.0) out of an unpacked Debian package
# golang-github-containerd-containerd-dev into protos/containerd, without the Go-only options that buf cannot resolve.
set -euo pipefail
src=$(realpath "${1:?usage: vendor-containerd-protos.sh DIR}")/usr/share/gocode/src/github.com/containerd/containerd
dst=$(cd "$(dirname "$0")/.." && pwd)/protos/containerd
for f in $(cd "$src" && ls api/types/*.proto api/types/task/*.proto api/events/*.proto api/services/{containers,content,diff,events,images,introspection,leases,namespaces,snapshots,tasks,version}/v1/*.proto runtime/v2/runc/options/oci.proto); do
  out=$dst/github.com/containerd/containerd/$f; mkdir -p "$(dirname "$out")"
  sed -E -e '/import weak/d' -e '/import .*(gogoproto|fieldpath)/d' -e '/option \((gogoproto|containerd\.plugin)[^;]*;/d' \
    -e '/option go_package/d' "$src/$f" | perl -0pe 's/\s*\[[^\]]*\((gogoproto|containerd)[^\]]*\]//gs' > "$out"
done
mkdir -p "$dst/google/rpc"
cat > "$dst/google/rpc/status.proto" <<'P'
syntax = "proto3";
package google.rpc;
import "google/protobuf/any.proto";
message Status { int32 code = 1; string message = 2; repeated google.protobuf.Any details = 3; }
P
cat > "$dst/README.md" <<'P'
containerd's API definitions, Apache-2.0, from Debian's golang-github-containerd-containerd-dev, with Go-only options removed by
`tools/vendor-containerd-protos.sh`. Copyright The containerd Authors.
P

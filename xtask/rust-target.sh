#!/usr/bin/env bash
# A compiler for another target where rustup cannot fetch its library: Debian's rustc-web, unpacked
# without root and linked as a rustup toolchain. The library of a Linux target is Debian's own; for
# Wasm core and alloc are compiled once from rust-web-src. Run again for another target, it adds that.
#
#   rust-target.sh <toolchain name> <target>
set -euo pipefail
name=$1
target=$2
prefix=${XDG_CACHE_HOME:-$HOME/.cache}/$name

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

version=$(apt-cache policy rustc-web | awk '/Candidate:/ { print $2 }')
if [ -z "$version" ] || [ "$version" = "(none)" ]; then
  echo "Debian's rustc-web is not available here" >&2
  exit 1
fi
if [ "$(cat "$prefix/version" 2>/dev/null)" != "$version" ]; then
  series=$(echo "$version" | sed -E 's/^([0-9]+\.[0-9]+).*/\1/')
  llvm=$(apt-cache depends "libstd-rust-web-$series=$version" | awk '/Depends: libllvm/ { print $2 }')
  mkdir "$work/debs"
  (
    cd "$work/debs"
    apt-get -qq -o APT::Sandbox::User=root download \
      "rustc-web=$version" "libstd-rust-web-$series=$version" "libstd-rust-web-dev=$version" \
      "rust-web-src=$version" "$llvm"
  )
  rm -rf "$prefix.new"
  mkdir -p "$prefix.new"
  for package in "$work"/debs/*.deb; do dpkg-deb -x "$package" "$prefix.new"; done

  # The layout that rustup expects: driver and LLVM directly in lib/.
  usr=$prefix.new/usr
  mv "$usr"/lib/x86_64-linux-gnu/librustc_driver-*.so "$usr"/lib/x86_64-linux-gnu/libLLVM* "$usr"/lib/
  tools=$(rustc --print sysroot)/lib/rustlib/x86_64-unknown-linux-gnu/bin
  mkdir -p "$usr/lib/rustlib/x86_64-unknown-linux-gnu/bin"
  ln -sf "$tools/rust-lld" "$usr/lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld"
  ln -sf "$(rustup which cargo)" "$usr/bin/cargo"
  echo "$version" >"$prefix.new/version"
  rm -rf "$prefix"
  mv "$prefix.new" "$prefix"
  rustup toolchain link "$name" "$prefix/usr"
fi

case $target in
aarch64-unknown-linux-gnu)
  # Debian's library for that architecture, by an index of our own: the machine's is left alone.
  apt=(-qq -o APT::Sandbox::User=root -o APT::Architectures::=arm64 -o "Dir::State=$work/state" -o "Dir::Cache=$work/cache"
    -o "Dir::State::status=$work/state/status")
  mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial" "$work/arm64"
  touch "$work/state/status"
  apt-get "${apt[@]}" update
  (cd "$work/arm64" && apt-get "${apt[@]}" download "libstd-rust-web-dev:arm64=$version")
  dpkg-deb -x "$work"/arm64/*.deb "$prefix"
  ;;
*)
  # core and alloc for the target, compiled once and put where the compiler looks.
  mkdir -p "$work/probe/src"
  printf '[package]\nname = "probe"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n' \
    >"$work/probe/Cargo.toml"
  echo '#![no_std]' >"$work/probe/src/lib.rs"
  (
    cd "$work/probe"
    RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Cembed-bitcode=yes \
      cargo "+$name" -q build --release --target "$target" -Zbuild-std=core,alloc
  )
  lib=$prefix/usr/lib/rustlib/$target/lib
  mkdir -p "$lib"
  cp "$work"/probe/target/"$target"/release/deps/*.rlib "$lib"/
  rm -f "$lib"/libprobe-*.rlib
  ;;
esac

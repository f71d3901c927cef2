#!/bin/sh
# Compiles one program in three languages and compares what they print.
set -eu
cd "$(dirname "$0")"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

gcc -O2 integral.c -o "$out/c"
g++ -O2 integral.cc -o "$out/c++"
gfortran -O2 integral.f90 -o "$out/fortran"

for language in c c++ fortran; do
    result=$("$out/$language")
    echo "$language $result"
    if [ "$result" != 3.141592654 ]; then
        echo "languages WRONG: $language"
        exit 1
    fi
done
echo "languages ok"

#!/bin/sh
#PBS -S bash
#PBS -j x
#PBS -r maybe
#PBS -p 5000
#PBS -m q
true

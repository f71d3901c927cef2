#!/bin/sh
#PBS -jn
#PBS -kod
#PBS -R oe
#PBS -c c=30
#PBS -zh
date

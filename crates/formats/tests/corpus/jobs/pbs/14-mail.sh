#!/bin/bash
#PBS -m abe
#PBS -M one@example.org,two@example.org
#PBS -p 100
#PBS -h
#PBS -a 203001020304
./run

#!/bin/bash
#$ -M a@b -m as
#$ -o out.txt -e err.txt
./run

#!/bin/bash
#$ -pe smp -cwd
#$ -N forgot
./run

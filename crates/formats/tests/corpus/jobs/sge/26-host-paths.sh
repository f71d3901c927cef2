#!/bin/bash
#$ -o node1:/tmp/out -e :/tmp/err
#$ -S node1:/bin/ksh
#$ -clear -terse
./run

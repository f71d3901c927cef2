#!/bin/bash
#BSUB -J hello
#BSUB -W 0:05
#BSUB -o hello.%J.out
echo hello

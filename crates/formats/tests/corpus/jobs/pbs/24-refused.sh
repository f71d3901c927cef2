#!/bin/bash
#PBS -I
#PBS -u root
#PBS -T prologue
./run

#!/bin/bash
#$ -cwd
#$ -q "*.q@@fast,short.q@node1?"
#$ -l h=rack[12]-*
./choose
